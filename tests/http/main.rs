//! The HTTP API over real sockets, and expositions as a real Prometheus takes them.
#[cfg(test)]
mod client;
#[cfg(test)]
mod expositions;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod peer;
#[cfg(test)]
#[path = "../peers/ports.rs"]
mod ports;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod sockets;
