//! The rules of the house, checked by reading its sources.
#[cfg(test)]
mod files;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod sources;
