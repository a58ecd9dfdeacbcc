//! The functions, one file per family: samples in, samples out.
//!
//! Owns: what each function computes, bit for bit.
//! Never: knows a plan, a source, a limit or a clock.
//! Tested by: the tests beside each family and the conformance scripts.
pub(crate) mod date;
pub(crate) mod extended;
pub(crate) mod heap;
pub(crate) mod histogram;
pub(crate) mod histogram_mean;
pub(crate) mod kahan;
pub(crate) mod kernel;
pub(crate) mod label;
pub(crate) mod math;
pub(crate) mod mixed;
#[cfg(test)]
mod mixed_tests;
pub(crate) mod name;
pub(crate) mod native;
pub(crate) mod native_rate;
#[cfg(test)]
mod native_tests;
pub(crate) mod native_trim;
pub(crate) mod over_time;
pub(crate) mod quantile;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod same_times;
pub(crate) mod sliding;
pub(crate) mod sort;
pub(crate) mod window;
pub(crate) mod xrate;

pub(crate) use name::{Func, NativeFn, RangeFn};
