//! The local database beside Debian's Prometheus and promtool: each opens what the other wrote.
#[cfg(test)]
mod histograms;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod peer;
#[cfg(test)]
#[path = "../peers/ports.rs"]
mod ports;
#[cfg(test)]
mod prometheus_reads_ours;
#[cfg(test)]
mod small_disk;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod upkeep;
#[cfg(test)]
mod we_read_theirs;
