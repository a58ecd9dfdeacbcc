//! Elementary functions of floats, equal in every bit to those the PromQL of Prometheus computes with.
//!
//! Owns: the algorithms behind `exp`, `ln`, `sin`, `^` and their relatives, as Go runs them on amd64 processors with fused
//! multiplication; each file names where its method and its coefficients were published. The order of operations is part of
//! each: rewriting an expression to an equal one changes last digits.
//! Never: asks the platform's mathematical library, whose last digits differ from system to system.
//! Tested by: arguments and results recorded from Go, for each function, in `tests.rs`.
mod exp;
mod hyperbolic;
mod inverse;
mod log;
mod parts;
mod power;
mod trigonometric;

pub use exp::{exp, exp2};
pub use hyperbolic::{acosh, asinh, atanh, cosh, sinh, tanh};
pub use inverse::{acos, asin, atan, atan2};
pub use log::{ln, ln_1p, log2, log10};
pub use parts::{fraction_and_exponent, times_power_of_two};
pub use power::{pow, remainder};
pub use trigonometric::{cos, sin, tan};

/// What functions answer where they have no value. It has a payload, and recorded values carry it.
const NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// The polynomial with these coefficients, the one of the highest power first.
fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = 0.0;
    for (i, coefficient) in coefficients.into_iter().enumerate() {
        sum = if i == 0 {
            coefficient
        } else {
            sum * x + coefficient
        };
    }
    sum
}

#[cfg(test)]
mod tests;
