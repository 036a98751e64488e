//! Why a client's file, or an entry in it, is not understood.

use thiserror::Error;

/// A fault and its line, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {fault}")]
pub struct ClientFileError {
    pub line: usize,
    pub fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("the file is longer than {} MiB", super::document::MAX >> 20)]
    TooLong,
    #[error("it is no JSON: {0}")]
    Syntax(String),
    #[error("{key} is not {wanted}")]
    Type { key: String, wanted: &'static str },
    #[error("{0} stands here twice")]
    Twice(String),
    #[error("{0} holds a zero byte, which no program can be given")]
    ZeroByte(String),
    #[error("{0:?} is no name of a variable")]
    Variable(String),
    #[error("the command is empty")]
    NoCommand,
}
