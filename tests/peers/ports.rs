//! Ports for programs that have to be told one before they listen.
//!
//! Shared by test binaries and the unit tests of the library through `#[path = "…/peers/ports.rs"]`.

use std::fs;
use std::net::TcpListener;
use std::ops::Range;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where ports are looked for; above what services usually have, below what systems usually give out themselves.
const PORTS: Range<u16> = 12_000..32_000;

/// How far ahead of each other test binaries begin that run at the same time.
const PER_PROCESS: u32 = 97;

/// A port nobody listens on at this moment, and which nobody is given who asks the kernel for any port, unless it gives out
/// all there are: between now and when a program that is told this port listens on it, other tests connect and listen all
/// the time. No two calls in a process answer with the same before all have been used.
pub(crate) fn free_port() -> u16 {
    static N_TAKEN: AtomicU16 = AtomicU16::new(0);
    let (kernels, all_are_kernels) = (kernels_range(), all_are_kernels());
    let start = process::id().wrapping_mul(PER_PROCESS);
    let n_ports = u32::from(PORTS.end - PORTS.start);
    for _ in PORTS {
        let n_before = N_TAKEN.fetch_add(1, Ordering::Relaxed);
        let at = start.wrapping_add(u32::from(n_before)) % n_ports;
        let port = PORTS.start + u16::try_from(at).unwrap();
        let is_ours = all_are_kernels || !kernels.contains(&port);
        if is_ours && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free; the kernel gives out {kernels:?}");
}

/// Whether the kernel may give out every port that is looked at here, as some machines are told to.
pub(crate) fn all_are_kernels() -> bool {
    let kernels = kernels_range();
    kernels.start <= PORTS.start && PORTS.end <= kernels.end
}

/// What the kernel chooses from for whoever leaves the choice to it.
pub(crate) fn kernels_range() -> Range<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut bounds = text.split_whitespace().map(|bound| bound.parse().unwrap());
    let first: u16 = bounds.next().unwrap();
    let last: u16 = bounds.next().unwrap();
    first..last.saturating_add(1)
}
