//! Files most of which are holes, as memories are.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Where in a file there is something, in order. What is between reads as zeros, and takes no time to be read.
pub fn data(file: &File) -> io::Result<Vec<Range<u64>>> {
    let length = file.metadata()?.len();
    let mut data = Vec::new();
    let mut place = 0;
    while let Some(start) = next(file, SeekFrom::Data(place))? {
        place = next(file, SeekFrom::Hole(start))?.unwrap_or(length);
        data.push(start..place);
    }
    Ok(data)
}

fn next(file: &File, from: SeekFrom) -> io::Result<Option<u64>> {
    match seek(file, from) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
