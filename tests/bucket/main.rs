//! The commands of `gauntlet bucket`, run as somebody runs them, over buckets that are directories.
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod work;
