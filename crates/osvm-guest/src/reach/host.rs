//! The way out: streams to the host, over whichever link there is at the time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::talk::Stream;

/// How long a stream waits for a link, and for its opening.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

pub(crate) type HostStream = Box<dyn Stream>;

pub(crate) type Opening = Pin<Box<dyn Future<Output = io::Result<HostStream>> + Send>>;

/// An open link.
pub(crate) trait Link: Send + Sync + 'static {
    /// Opens a stream to a port of the host's.
    fn open(&self, port: u32) -> Opening;
}

/// The host. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Host {
    link: watch::Sender<Option<Arc<dyn Link>>>,
    /// How many things wait to be told to it.
    untold: watch::Sender<usize>,
}

/// There is a link for as long as this lives.
pub(crate) struct Linked(Host);

impl Host {
    pub(crate) fn linked(&self, link: impl Link) -> Linked {
        self.link.send_replace(Some(Arc::new(link)));
        Linked(self.clone())
    }

    /// A stream over the link there is, or the next one if it comes soon.
    pub(crate) async fn open(&self, port: u32) -> io::Result<HostStream> {
        let open = async { self.link().await?.open(port).await };
        let opened = tokio::time::timeout(OPEN_WITHIN, open).await;
        opened.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no link")))
    }

    /// Something more waits to be told.
    pub(crate) fn owe(&self) {
        self.untold.send_modify(|count| *count += 1);
    }

    /// So many things have been told, or given up.
    pub(crate) fn told(&self, how_many: usize) {
        self.untold.send_modify(|count| *count = count.saturating_sub(how_many));
    }

    /// Waits until nothing is left to be told.
    pub(crate) async fn all_told(&self) {
        // Fails only when this has gone.
        let _ = self.untold.subscribe().wait_for(|count| *count == 0).await;
    }

    async fn link(&self) -> io::Result<Arc<dyn Link>> {
        let mut link = self.link.subscribe();
        let link = link.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
        link.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        self.0.link.send_replace(None);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::sync::mpsc;

    use super::*;

    /// A link whose streams come out here.
    pub(crate) struct Direct(mpsc::UnboundedSender<(u32, HostStream)>);

    pub(crate) type Accepted = mpsc::UnboundedReceiver<(u32, HostStream)>;

    pub(crate) fn direct() -> (Direct, Accepted) {
        let (sender, accepted) = mpsc::unbounded_channel();
        (Direct(sender), accepted)
    }

    impl Link for Direct {
        fn open(&self, port: u32) -> Opening {
            let (ours, theirs) = duplex(16 * 1024);
            let sent = self.0.send((port, Box::new(theirs)));
            let gone = |_| io::ErrorKind::BrokenPipe.into();
            Box::pin(async move { sent.map(|()| Box::new(ours) as HostStream).map_err(gone) })
        }
    }

    #[tokio::test]
    async fn each_stream_is_opened_over_the_link_of_its_time() {
        let host = Host::default();
        for round in 0..2 {
            let (link, mut accepted) = direct();
            let _linked = host.linked(link);
            let mut ours = host.open(7).await.unwrap();
            let (port, mut theirs) = accepted.recv().await.unwrap();
            assert_eq!(port, 7);
            ours.write_u8(round).await.unwrap();
            assert_eq!(theirs.read_u8().await.unwrap(), round);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_waits_for_the_next_link_and_not_for_ever() {
        let host = Host::default();
        let waiting = tokio::spawn({
            let host = host.clone();
            async move { host.open(7).await.map(|_| ()) }
        });
        tokio::time::sleep(OPEN_WITHIN / 2).await;
        let (link, _accepted) = direct();
        let linked = host.linked(link);
        waiting.await.unwrap().unwrap();
        drop(linked);
        let error = host.open(7).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
