//! The way to the guest: what an agent needs of a link, and which link is the current one. While the guest sleeps there
//! is none: whoever wants one is waited for by whoever can wake it.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use futures::future::BoxFuture;
use osvm_vmm::{Link, LinkError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::AgentError;

/// A byte stream to a port of the guest.
pub trait AgentStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> AgentStream for S {}

/// Something that opens streams to the guest's ports: [`Link`], or pipes in a test.
pub trait Dial: Send + Sync + 'static {
    /// Fails with [`io::ErrorKind::ResourceBusy`] if only too many streams are open; after any other failure
    /// the link counts as broken.
    fn dial(&self, port: u32) -> BoxFuture<'_, io::Result<Box<dyn AgentStream>>>;
}

impl Dial for Link {
    fn dial(&self, port: u32) -> BoxFuture<'_, io::Result<Box<dyn AgentStream>>> {
        Box::pin(async move {
            let stream = self.open(port).await.map_err(failure)?;
            Ok(Box::new(stream) as Box<dyn AgentStream>)
        })
    }
}

fn failure(error: LinkError) -> io::Error {
    match error {
        LinkError::TooMany { .. } => io::Error::new(io::ErrorKind::ResourceBusy, error),
        _ => io::Error::other(error),
    }
}

/// The current link of one VM, seen by its agent and by all its sessions.
#[derive(Debug, Clone)]
pub(super) struct Links {
    source: Arc<Source>,
}

#[derive(Debug)]
struct Source {
    current: watch::Sender<Way>,
    /// Somebody has something for a guest that sleeps.
    wanted: watch::Sender<bool>,
}

/// Follows the changes of [`Links`]. Does not keep them: a session learns that its agent is gone.
#[derive(Debug, Clone)]
pub(super) struct Follow {
    current: watch::Receiver<Way>,
    source: Weak<Source>,
}

#[derive(Clone)]
enum Way {
    Open(Arc<dyn Dial>),
    /// There will be one when it is wanted. Why it could not be had yet, if it was.
    Asleep(Option<Arc<str>>),
    Gone,
    /// Whoever answered was not the agent. Nothing is asked there any more.
    Distrusted(Arc<str>),
}

impl Links {
    pub(super) fn new(link: impl Dial) -> Self {
        Self::beginning(Way::Open(Arc::new(link)))
    }

    /// Of a guest that sleeps.
    pub(super) fn asleep() -> Self {
        Self::beginning(Way::Asleep(None))
    }

    fn beginning(way: Way) -> Self {
        let (current, wanted) = (watch::Sender::new(way), watch::Sender::new(false));
        Self { source: Arc::new(Source { current, wanted }) }
    }

    pub(super) fn replace(&self, link: impl Dial) {
        self.source.change(Way::Open(Arc::new(link)));
    }

    /// There is no link from now on until somebody wants one.
    pub(super) fn sleep(&self) {
        self.source.wanted.send_replace(false);
        self.source.change(Way::Asleep(None));
    }

    /// Those who want one now are told that there is none.
    pub(super) fn put_off(&self, why: &str) {
        self.source.wanted.send_replace(false);
        self.source.change(Way::Asleep(Some(why.into())));
    }

    pub(super) fn is_asleep(&self) -> bool {
        matches!(&*self.source.current.borrow(), Way::Asleep(_))
    }

    /// Waits until somebody wants the link of a guest that sleeps.
    pub(super) async fn wanted(&self) {
        let mut wanted = self.source.wanted.subscribe();
        wanted.wait_for(|wanted| *wanted).await.expect("its sender is in self");
    }

    pub(super) fn give_up(&self) {
        self.source.current.send_replace(Way::Gone);
    }

    /// The current link. Wakes a guest that sleeps, and waits for that.
    pub(super) async fn current(&self) -> Result<Arc<dyn Dial>, AgentError> {
        let mut current = self.source.current.subscribe();
        let mut has_waited = false;
        loop {
            match &*current.borrow_and_update() {
                Way::Asleep(Some(why)) if has_waited => {
                    return Err(AgentError::Sleeps(Arc::clone(why)));
                }
                way => {
                    if let Some(link) = way.link()? {
                        return Ok(link);
                    }
                }
            }
            self.source.want();
            has_waited = true;
            current.changed().await.expect("its sender is in self");
        }
    }

    pub(super) fn follow(&self) -> Follow {
        let source = Arc::downgrade(&self.source);
        Follow { current: self.source.current.subscribe(), source }
    }

    pub(super) fn distrust(&self, why: &str) {
        self.source.change(Way::Distrusted(why.into()));
    }

    /// Waits until there is a reason for distrust.
    pub(super) async fn distrusted(&self) -> Arc<str> {
        let mut current = self.source.current.subscribe();
        loop {
            if let Way::Distrusted(why) = &*current.borrow_and_update() {
                return Arc::clone(why);
            }
            current.changed().await.expect("its sender is in self");
        }
    }
}

impl Source {
    fn want(&self) {
        self.wanted.send_replace(true);
    }

    /// Distrust is for good.
    fn change(&self, next: Way) {
        self.current.send_if_modified(|way| {
            let may = !matches!(way, Way::Distrusted(_));
            if may {
                *way = next;
            }
            may
        });
    }
}

impl Follow {
    /// The current link, if the guest does not sleep; [`changed`](Self::changed) then waits for the one after it.
    pub(super) fn current(&mut self) -> Result<Option<Arc<dyn Dial>>, AgentError> {
        self.current.borrow_and_update().link()
    }

    /// Has a guest that sleeps woken.
    pub(super) fn want(&self) {
        if let Some(source) = self.source.upgrade() {
            source.want();
        }
    }

    /// Returns when there is another link than the one last seen, or none at all any more.
    pub(super) async fn changed(&mut self) -> Result<(), AgentError> {
        self.current.changed().await.map_err(|_| AgentError::Gone)
    }

    /// Whether the current link has not been taken by [`current`](Self::current) yet.
    pub(super) fn has_changed(&self) -> bool {
        self.current.has_changed().unwrap_or(true)
    }

    pub(super) fn distrust(&self, why: &str) {
        if let Some(source) = self.source.upgrade() {
            source.change(Way::Distrusted(why.into()));
        }
    }
}

impl Way {
    fn link(&self) -> Result<Option<Arc<dyn Dial>>, AgentError> {
        match self {
            Self::Open(link) => Ok(Some(Arc::clone(link))),
            Self::Asleep(_) => Ok(None),
            Self::Gone | Self::Distrusted(_) => Err(AgentError::Gone),
        }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Asleep(_) => "Asleep",
            Self::Gone => "Gone",
            Self::Distrusted(_) => "Distrusted",
        })
    }
}
