//! Scripted targets against the whole room.

mod appending;
mod fetching;
mod pools;
mod real;
