//! Sine, cosine and tangent.
//!
//! Method and coefficients are those of S. Moshier's Cephes library (`sin.c`, `tan.c`): the argument is reduced to an octant
//! and at most π/4 around a multiple of π/2, where polynomials hold. Arguments from 2^29 on are reduced by the method of
//! M. Payne and R. Hanek (1983), which multiplies with as many binary digits of 4/π as matter.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "octants are counted in what is positive and below 2^30; of products the lower word is meant"
)]

use crate::model::math::{NAN, polynomial};

const SIN: [f64; 6] = [
    1.5896230157654656e-10,
    -2.5050747762857807e-08,
    2.7557313621385722e-06,
    -0.0001984126982958954,
    0.008333333333322118,
    -0.1666666666666663,
];
const COS: [f64; 6] = [
    -1.1358536521387682e-11,
    2.087570084197473e-09,
    -2.755731417929674e-07,
    2.4801587288851704e-05,
    -0.0013888888888873056,
    0.041666666666666595,
];
const TAN_P: [f64; 3] = [-13093.693918138379, 1153516.6483858742, -17956525.197648488];
const TAN_Q: [f64; 5] = [
    1.0,
    13681.296347069296,
    -1320892.3444021097,
    25008380.18233579,
    -53869575.592945464,
];

const FOUR_OVER_PI: f64 = 1.2732395447351628;
/// From here on multiples of π/4 are no longer exact in three parts.
const PAYNE_HANEK_MIN: f64 = 536_870_912.0;

/// 4/π in binary, one bit before the point, 64 bits a word.
const FOUR_OVER_PI_BITS: [u64; 20] = [
    0x0000_0000_0000_0001,
    0x45f3_06dc_9c88_2a53,
    0xf84e_afa3_ea69_bb81,
    0xb6c5_2b32_7887_2083,
    0xfca2_c757_bd77_8ac3,
    0x6e48_dc74_849b_a5c0,
    0x0c92_5dd4_13a3_2439,
    0xfc3b_d639_6253_4e7d,
    0xd104_6bea_5d76_8909,
    0xd338_e04d_68be_fc82,
    0x7323_ac73_06a6_73e9,
    0x3908_bf17_7bf2_5076,
    0x3ff1_2fff_bc0b_301f,
    0xde5e_2316_b414_da3e,
    0xda6c_fd9e_4f96_136e,
    0x9e8c_7ecd_3cbf_d45a,
    0xea4f_758f_d7cb_e2f6,
    0x7a0e_73ef_14a5_25d4,
    0xd7f6_bf62_3f1a_ba10,
    0xac06_608d_f8f6_d757,
];

/// The sine of `x` radians.
pub fn sin(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if x.is_infinite() {
        return NAN;
    }
    let (octant, z) = reduce(x.abs());
    let value = match octant % 4 {
        1 | 2 => cos_near_zero(z),
        _ => sin_near_zero(z),
    };
    if (x < 0.0) != (octant > 3) {
        -value
    } else {
        value
    }
}

/// The cosine of `x` radians.
pub fn cos(x: f64) -> f64 {
    if !x.is_finite() {
        return NAN;
    }
    let (octant, z) = reduce(x.abs());
    let value = match octant % 4 {
        1 | 2 => sin_near_zero(z),
        _ => cos_near_zero(z),
    };
    if (octant > 3) != (octant % 4 > 1) {
        -value
    } else {
        value
    }
}

/// The tangent of `x` radians.
pub fn tan(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if x.is_infinite() {
        return NAN;
    }
    let (octant, z) = reduce(x.abs());
    let zz = z * z;
    let mut value = z;
    if zz > 1e-14 {
        value = z + z * (zz * polynomial(zz, TAN_P) / polynomial(zz, TAN_Q));
    }
    if octant & 2 == 2 {
        value = -1.0 / value;
    }
    if x < 0.0 { -value } else { value }
}

fn sin_near_zero(z: f64) -> f64 {
    let zz = z * z;
    z + z * zz * polynomial(zz, SIN)
}

fn cos_near_zero(z: f64) -> f64 {
    let zz = z * z;
    1.0 - 0.5 * zz + zz * zz * polynomial(zz, COS)
}

/// The octant of `x`, 0 to 7 and even, as the odd ones count to the next, and how far `x` is from where it begins.
fn reduce(x: f64) -> (u64, f64) {
    /// π/4 in three parts; multiples of the first two are exact.
    const PI_OVER_4: [f64; 3] = [
        0.7853981256484985,
        3.774894707930798e-08,
        2.6951514290790595e-15,
    ];
    if x >= PAYNE_HANEK_MIN {
        return payne_hanek(x);
    }
    let [high, middle, low] = PI_OVER_4;
    let octant = (x * FOUR_OVER_PI) as u64;
    let octant = octant + octant % 2;
    let multiple = octant as f64;
    let z = ((x - multiple * high) - multiple * middle) - multiple * low;
    (octant % 8, z)
}

fn payne_hanek(x: f64) -> (u64, f64) {
    let bits = x.to_bits();
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    // At least 1 here, since x is above 2^29.
    let at_bit = ((bits >> 52) + 61).saturating_sub(1023 + 52);
    let digits = |word: u64| {
        let word = usize::try_from(at_bit / 64 + word).unwrap_or(usize::MAX);
        let at = |word: usize| u128::from(FOUR_OVER_PI_BITS.get(word).copied().unwrap_or(0));
        let pair = at(word) << 64 | at(word + 1);
        u128::from(((pair << (at_bit % 64)) >> 64) as u64)
    };
    let mantissa = u128::from(mantissa);
    // Bits above the top of this stand for whole turns.
    let product = ((digits(0) * mantissa) << 64)
        .wrapping_add(digits(1) * mantissa)
        .wrapping_add((digits(2) * mantissa) >> 64);
    let octant = (product >> 125) as u64;
    let fraction = ((product << 3) >> 64) as u64;
    let filler = product as u64;
    let leading = fraction.leading_zeros() + 1;
    // The bits that shift in come from the second word as it is; so does the method this has to agree with.
    let mantissa = fraction.checked_shl(leading).unwrap_or(0)
        | filler
            .checked_shr(64_u32.saturating_sub(leading))
            .unwrap_or(0);
    let z = f64::from_bits(u64::from(1023 - leading) << 52 | mantissa >> 12);
    if octant % 2 == 1 {
        return ((octant + 1) % 8, (z - 1.0) * std::f64::consts::FRAC_PI_4);
    }
    (octant, z * std::f64::consts::FRAC_PI_4)
}
