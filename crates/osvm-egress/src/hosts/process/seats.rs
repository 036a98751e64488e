//! How many connections there may be at a time. A VM is known by its log, which it shares with no other.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};

use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::log::{Log, LogId};
use super::super::relay::{Errand, Full};
use super::parcel::Parcel;

/// Most connections, each with two descriptors and at most a few hundred KiB.
const ALL: usize = 512;

/// Most connections of one VM.
const VM: usize = 128;

/// Most streams that are only told that there is no seat.
const STANDING: usize = 64;

pub(super) struct Seats {
    all: Arc<Semaphore>,
    standing: Arc<Semaphore>,
    vms: HashMap<LogId, Weak<Vm>>,
}

struct Vm {
    log: Arc<Log>,
    seats: Arc<Semaphore>,
}

/// Held for as long as a stream is.
#[expect(dead_code, reason = "what it holds is given back when it is dropped")]
pub(super) struct Seat {
    permits: Vec<OwnedSemaphorePermit>,
    vm: Arc<Vm>,
}

impl Default for Seats {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { all: semaphore(ALL), standing: semaphore(STANDING), vms: HashMap::new() }
    }
}

impl Seats {
    /// What is to be done with a parcel; `None` if there is not even room to say why not.
    pub(super) fn seat(
        &mut self,
        parcel: Parcel,
    ) -> io::Result<Option<(Errand<UnixStream>, Seat)>> {
        let Parcel { rules, stream, log } = parcel;
        let vm = self.vm(Log::new(log))?;
        let (permits, full) = match self.take(&vm) {
            Ok(permits) => (permits, None),
            Err(full) => match self.standing.clone().try_acquire_owned() {
                Ok(permit) => (vec![permit], Some(full)),
                Err(_) => return Ok(None),
            },
        };
        let stream = UnixStream::from_std(stream)?;
        let errand = Errand { stream, rules, log: vm.log.clone(), full };
        Ok(Some((errand, Seat { permits, vm })))
    }

    fn take(&self, vm: &Vm) -> Result<Vec<OwnedSemaphorePermit>, Full> {
        let own = vm.seats.clone().try_acquire_owned().map_err(|_| Full::Vm(VM))?;
        let all = self.all.clone().try_acquire_owned().map_err(|_| Full::All(ALL))?;
        Ok(vec![own, all])
    }

    /// Keeps one descriptor of a log, however many connections it has.
    fn vm(&mut self, log: Log) -> io::Result<Arc<Vm>> {
        let id = log.id()?;
        if let Some(vm) = self.vms.get(&id).and_then(Weak::upgrade) {
            return Ok(vm);
        }
        self.vms.retain(|_, vm| vm.strong_count() > 0);
        let vm = Arc::new(Vm { log: Arc::new(log), seats: Arc::new(Semaphore::new(VM)) });
        self.vms.insert(id, Arc::downgrade(&vm));
        Ok(vm)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use osvm_spec::Hosts;

    use super::*;

    fn parcel(log: &File) -> Parcel {
        let (_, stream) = std::os::unix::net::UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let log = log.try_clone().unwrap().into();
        Parcel { rules: Hosts::default(), stream, log }
    }

    fn seat(seats: &mut Seats, log: &File) -> (Option<Full>, Seat) {
        let (errand, seat) = seats.seat(parcel(log)).unwrap().unwrap();
        (errand.full, seat)
    }

    #[tokio::test]
    async fn a_vm_has_so_many_connections_and_leaves_the_rest_to_others() {
        let (mut seats, logs) = (Seats::default(), [(); 5].map(|()| tempfile::tempfile().unwrap()));
        let mut taken = Vec::new();
        for log in &logs[..4] {
            for _ in 0..VM {
                let (full, seat) = seat(&mut seats, log);
                assert_eq!(full, None);
                taken.push(seat);
            }
            let (full, _seat) = seat(&mut seats, log);
            assert_eq!(full, Some(Full::Vm(VM)));
        }
        assert_eq!(seat(&mut seats, &logs[4]).0, Some(Full::All(ALL)));
        taken.pop();
        assert_eq!(seat(&mut seats, &logs[4]).0, None);
    }

    #[tokio::test]
    async fn streams_beyond_the_standing_room_are_dropped() {
        let (mut seats, log) = (Seats::default(), tempfile::tempfile().unwrap());
        let taken: Vec<_> = (0..VM + STANDING).map(|_| seat(&mut seats, &log)).collect();
        assert!(seats.seat(parcel(&log)).unwrap().is_none());
        drop(taken);
        assert_eq!(seat(&mut seats, &log).0, None);
    }
}
