//! The HTTP API over real sockets, beside a real Prometheus.
#[cfg(test)]
mod client;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod sockets;
