//! The first process of a guest that does nothing but echo, over a serial port or vsock as the variable `echo` of the
//! kernel's command line says. A program of its own, which the benchmark compiles: it needs nothing but the standard library.
#![expect(unsafe_code, reason = "the standard library knows neither mounts nor vsock")]
#![expect(clippy::disallowed_methods, reason = "the kernel tells its first process by variables")]

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::FromRawFd;
use std::time::Duration;

const PORT: &str = "/dev/vport0p1";
const SOON: Duration = Duration::from_millis(1);

const AF_VSOCK: u16 = 40;
const SOCK_STREAM: c_int = 1;
/// As the host dials it.
const VSOCK_PORT: u32 = 5252;

#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(socket: c_int, address: *const Address, length: u32) -> c_int;
    fn listen(socket: c_int, backlog: c_int) -> c_int;
    fn accept(socket: c_int, address: *mut c_void, length: *mut u32) -> c_int;
}

fn main() -> io::Result<()> {
    if std::env::var("echo").is_ok_and(|way| way == "vsock") { vsock() } else { serial() }
}

/// Without a host, there is nothing to read.
fn serial() -> io::Result<()> {
    const DEVICES: &CStr = c"devtmpfs";
    // SAFETY: all strings end with a zero, and no data is needed.
    let mounted =
        unsafe { mount(DEVICES.as_ptr(), c"/dev".as_ptr(), DEVICES.as_ptr(), 0, std::ptr::null()) };
    done(mounted)?;
    let mut port = loop {
        match File::options().read(true).write(true).open(PORT) {
            Ok(port) => break port,
            Err(_) => std::thread::sleep(SOON),
        }
    };
    loop {
        echo(&mut port)?;
        std::thread::sleep(SOON);
    }
}

fn vsock() -> io::Result<()> {
    let any =
        Address { family: AF_VSOCK, reserved: 0, port: VSOCK_PORT, cid: u32::MAX, zero: [0; 4] };
    // SAFETY: `any` is laid out as the kernel's sockaddr_vm and lives longer than the calls.
    let listener = unsafe {
        let listener = done(socket(AF_VSOCK.into(), SOCK_STREAM, 0))?;
        done(bind(listener, &raw const any, size_of::<Address>() as u32))?;
        done(listen(listener, 8))?;
        listener
    };
    loop {
        // SAFETY: who connects is not asked for, and the descriptor is nobody else's.
        let mut stream = unsafe {
            let stream = done(accept(listener, std::ptr::null_mut(), std::ptr::null_mut()))?;
            File::from_raw_fd(stream)
        };
        // A host that hangs up is followed by another.
        let _ = echo(&mut stream);
    }
}

/// Until there is nothing more.
fn echo(stream: &mut File) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

fn done(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
