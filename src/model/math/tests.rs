//! What Go 1.26 answered on amd64: a line holds the bits of the arguments and of the result, in hexadecimal. The first lines
//! are edges of domains and of methods, the others are random over many magnitudes.
#![expect(clippy::float_cmp, reason = "exact values are what is tested")]

use super::*;

fn bits(line: &str) -> Vec<f64> {
    line.split(' ')
        .map(|word| f64::from_bits(u64::from_str_radix(word, 16).unwrap()))
        .collect()
}

#[track_caller]
fn check(recorded: &str, n_lines: usize, compute: impl Fn(&[f64]) -> f64) {
    assert_eq!(recorded.lines().count(), n_lines);
    for line in recorded.lines() {
        let values = bits(line);
        let (expected, arguments) = values.split_last().unwrap();
        let found = compute(arguments);
        assert!(
            found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
            "{arguments:?}: {found:e} is not {expected:e}"
        );
    }
}

macro_rules! recorded {
    ($($test:ident: $function:ident of one;)*) => {$(
        #[test]
        fn $test() {
            let recorded = include_str!(concat!("golden/", stringify!($function), ".txt"));
            check(recorded, 300, |x| $function(x[0]));
        }
    )*};
    ($($test:ident: $function:ident of two;)*) => {$(
        #[test]
        fn $test() {
            let recorded = include_str!(concat!("golden/", stringify!($function), ".txt"));
            check(recorded, 500, |x| $function(x[0], x[1]));
        }
    )*};
}

recorded! {
    exp_has_the_recorded_bits: exp of one;
    exp2_has_the_recorded_bits: exp2 of one;
    ln_has_the_recorded_bits: ln of one;
    ln_1p_has_the_recorded_bits: ln_1p of one;
    log2_has_the_recorded_bits: log2 of one;
    log10_has_the_recorded_bits: log10 of one;
    sin_has_the_recorded_bits: sin of one;
    cos_has_the_recorded_bits: cos of one;
    tan_has_the_recorded_bits: tan of one;
    asin_has_the_recorded_bits: asin of one;
    acos_has_the_recorded_bits: acos of one;
    atan_has_the_recorded_bits: atan of one;
    sinh_has_the_recorded_bits: sinh of one;
    cosh_has_the_recorded_bits: cosh of one;
    tanh_has_the_recorded_bits: tanh of one;
    asinh_has_the_recorded_bits: asinh of one;
    acosh_has_the_recorded_bits: acosh of one;
    atanh_has_the_recorded_bits: atanh of one;
}

recorded! {
    pow_has_the_recorded_bits: pow of two;
    remainder_has_the_recorded_bits: remainder of two;
    atan2_has_the_recorded_bits: atan2 of two;
}

#[test]
fn where_there_is_no_value_the_answer_is_the_nan_that_is_recorded() {
    for v in [
        ln(-1.0),
        sin(f64::INFINITY),
        acosh(0.5),
        pow(-2.0, 0.3),
        remainder(1.0, 0.0),
    ] {
        assert_eq!(v.to_bits(), 0x7ff8_0000_0000_0001);
    }
}

#[test]
fn powers_and_logarithms_have_the_digits_prometheus_prints() {
    assert_eq!(pow(-34.4655, 9.0), -68_621_664_739_658.63);
    assert_eq!(pow(-33.88052, 8.0), 1_736_203_143_790.612_3);
    assert_eq!(log2(8.91465), 3.156_178_157_000_408);
    assert_eq!(log10(77.4627), 1.889_092_630_458_806_7);
    assert_eq!(log10(0.47), -0.327_902_142_064_282_53);
}

#[test]
fn every_float_is_its_fraction_times_its_power_of_two() {
    for v in [1.0, -0.75, 5e-324, f64::MAX, 1e-310, -3.5e200] {
        let (fraction, exponent) = fraction_and_exponent(v);
        assert!(
            0.5 <= fraction.abs() && fraction.abs() < 1.0,
            "{v}: {fraction}"
        );
        assert_eq!(times_power_of_two(fraction, exponent), v);
    }
    assert_eq!(times_power_of_two(0.75, -1074), 5e-324);
    assert_eq!(
        times_power_of_two(-0.75, -1075).to_bits(),
        (-0.0_f64).to_bits()
    );
    assert_eq!(times_power_of_two(-0.5, 1025), f64::NEG_INFINITY);
}
