//! Server processes: finding the program, becoming the user, starting, killing and reaping.

mod cage;
mod lookup;
mod reaper;
mod root;
mod start;
mod user;

pub(crate) use cage::{Cage, Cages};
pub(crate) use reaper::{Ended, Reaper};
pub(crate) use root::Root;
pub(crate) use start::{Pipes, Started, start};
pub(crate) use user::{Owner, name_unprivileged};
