//! Blocks against the programs that share their format.
#[cfg(test)]
mod debian;
#[cfg(test)]
mod downsample;
#[cfg(test)]
mod promtool;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod windows;
