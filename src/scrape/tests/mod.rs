//! Scripted targets against the whole room.

mod appending;
mod fetching;
mod histograms;
mod pools;
mod real;
