#![doc = include_str!("ARCHITECTURE.md")]

// Floor 0: mechanisms, and the generated wire types.
pub mod foundation;
pub mod wire;
// Floor 1: the nouns.
pub mod model;
// Floor 2: formats and seams.
pub mod bucket;
pub mod catalog;
pub mod chunk;
pub mod exposition;
pub mod relabel;
pub mod storage;
// Floor 3: indexes, logs, queries, and remote writes into the seam.
pub mod index;
pub mod promql;
pub mod remote;
pub mod wal;
// Floor 4: blocks.
pub mod block;
// Floor 5: what is known of the bucket.
pub mod inventory;
// Floor 6: what is done with blocks, and what becomes blocks.
pub mod compact;
pub mod downsample;
pub mod gateway;
pub mod head;
pub mod scrape;
pub mod shipper;
// Floor 7: the local database and the timeline, and what becomes of the bucket's blocks.
pub mod compactor;
pub mod tsdb;
// Floor 8: who does it, and when; what is done by hand.
pub mod actors;
pub mod maintenance;
// Floor 9: the rim.
pub mod api;
pub mod config;
// Floors 10 and 11: the attic and the door.
pub mod appliance;
pub mod cli;
