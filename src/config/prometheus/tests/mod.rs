//! What is taken, what is refused, and where the complaint points.

mod promtool;
mod refusals;
mod translation;

use std::path::Path;

use crate::config::prometheus::{Complaint, Loaded, load};

/// Writes `text` as `prometheus.yml` into `dir` and loads it.
fn load_text(dir: &Path, text: &str) -> Result<Loaded, Vec<Complaint>> {
    let path = dir.join("prometheus.yml");
    crate::foundation::durable::replace_file(&path, text.as_bytes()).unwrap();
    load(&path)
}
