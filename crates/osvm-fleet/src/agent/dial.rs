//! The way to the guest: what an agent needs of a link, and which link is the current one.

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
    current: Arc<watch::Sender<Way>>,
}

/// Follows the changes of [`Links`]. Does not keep them: a session learns that its agent is gone.
#[derive(Debug, Clone)]
pub(super) struct Follow {
    current: watch::Receiver<Way>,
    source: Weak<watch::Sender<Way>>,
}

#[derive(Clone)]
enum Way {
    Open(Arc<dyn Dial>),
    Gone,
    /// Whoever answered was not the agent. Nothing is asked there any more.
    Distrusted(Arc<str>),
}

impl Links {
    pub(super) fn new(link: impl Dial) -> Self {
        Self { current: Arc::new(watch::Sender::new(Way::Open(Arc::new(link)))) }
    }

    pub(super) fn replace(&self, link: impl Dial) {
        change(&self.current, Way::Open(Arc::new(link)));
    }

    pub(super) fn give_up(&self) {
        self.current.send_replace(Way::Gone);
    }

    pub(super) fn current(&self) -> Result<Arc<dyn Dial>, AgentError> {
        self.current.borrow().link()
    }

    pub(super) fn follow(&self) -> Follow {
        let source = Arc::downgrade(&self.current);
        Follow { current: self.current.subscribe(), source }
    }

    pub(super) fn distrust(&self, why: &str) {
        change(&self.current, Way::Distrusted(why.into()));
    }

    /// Waits until there is a reason for distrust.
    pub(super) async fn distrusted(&self) -> Arc<str> {
        let mut current = self.current.subscribe();
        loop {
            if let Way::Distrusted(why) = &*current.borrow_and_update() {
                return Arc::clone(why);
            }
            current.changed().await.expect("its sender is in self");
        }
    }
}

/// Distrust is for good.
fn change(current: &watch::Sender<Way>, next: Way) {
    current.send_if_modified(|way| {
        let may = !matches!(way, Way::Distrusted(_));
        if may {
            *way = next;
        }
        may
    });
}

impl Follow {
    /// The current link; [`changed`](Self::changed) then waits for the one after it.
    pub(super) fn current(&mut self) -> Result<Arc<dyn Dial>, AgentError> {
        self.current.borrow_and_update().link()
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
            change(&source, Way::Distrusted(why.into()));
        }
    }
}

impl Way {
    fn link(&self) -> Result<Arc<dyn Dial>, AgentError> {
        match self {
            Self::Open(link) => Ok(Arc::clone(link)),
            Self::Gone | Self::Distrusted(_) => Err(AgentError::Gone),
        }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Gone => "Gone",
            Self::Distrusted(_) => "Distrusted",
        })
    }
}
