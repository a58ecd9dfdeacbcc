//! The whole process: the real binary on free ports with a directory of its own, asked over its sockets.
//!
//! A test fails on any WARN or ERROR line of the log that it did not announce.
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod host_loss;
#[cfg(test)]
mod late;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod panics;
#[cfg(test)]
#[path = "../peers/ports.rs"]
mod ports;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod resolutions;
#[cfg(test)]
mod s3;
#[cfg(test)]
mod seams;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod uploads;
