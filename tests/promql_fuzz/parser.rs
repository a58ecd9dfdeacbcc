//! The parser against queries, broken queries and token soup: it never panics, and what it prints it reads back.
//!
//! `GAUNTLET_FUZZ_SECONDS` makes it go on for so long, `GAUNTLET_FUZZ_SEED` starts it elsewhere,
//! `GAUNTLET_FUZZ_ROUND` repeats the one round that a failure names.

use std::panic::catch_unwind;
use std::time::Duration;

use gauntlet::promql::parse::{parse_expr, parse_selector_matchers, pretty, tree_json};
use gauntlet::promql::testing::QUERY_PIECES;
use serde_json::Value;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::generate::Generator;
use crate::leaves::Dialect;
use crate::settings;

/// Inputs when no time is given.
const ROUNDS: u64 = 15_000;

/// One input, made from a round's dice.
fn input(dice: &mut Dice) -> String {
    match dice.below(10) {
        0..=2 => query(dice),
        3 => soup(dice),
        4..=6 => {
            let text = query(dice);
            break_tokens(dice, &text)
        }
        7 | 8 => {
            let text = query(dice);
            break_bytes(dice, text.into_bytes())
        }
        _ => {
            let (left, right) = (query(dice), query(dice));
            let (left, right) = (tokens(&left), tokens(&right));
            let (cut, from) = (dice.below(left.len()), dice.below(right.len()));
            left[..cut].concat() + &right[from..].concat()
        }
    }
}

fn query(dice: &mut Dice) -> String {
    let depth = dice.below(6);
    let mut generator = Generator {
        dice,
        dialect: Dialect::Newest,
    };
    generator.query(depth, false)
}

fn soup(dice: &mut Dice) -> String {
    let n = dice.below(24);
    (0..n)
        .map(|_| {
            let space = if dice.chance(40) { " " } else { "" };
            format!("{}{space}", dice.of(&QUERY_PIECES))
        })
        .collect()
}

/// Words, runs of digits and spaces, and single signs.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut last = None;
    for letter in text.chars() {
        let class = match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' => 1,
            ' ' => 2,
            _ => 0,
        };
        match tokens.last_mut() {
            Some(token) if class != 0 && last == Some(class) => token.push(letter),
            _ => tokens.push(letter.to_string()),
        }
        last = Some(class);
    }
    tokens
}

/// A few tokens dropped, doubled, swapped or replaced.
fn break_tokens(dice: &mut Dice, text: &str) -> String {
    let mut tokens = tokens(text);
    for _ in 0..=dice.below(3) {
        let (here, there) = (dice.below(tokens.len()), dice.below(tokens.len()));
        if tokens.is_empty() {
            break;
        }
        match dice.below(5) {
            0 => drop(tokens.remove(here)),
            1 => tokens.insert(here, tokens[there].clone()),
            2 => tokens.swap(here, there),
            3 => tokens.insert(here, dice.of(&QUERY_PIECES).to_owned()),
            _ => dice.of(&QUERY_PIECES).clone_into(&mut tokens[here]),
        }
    }
    tokens.concat()
}

/// A few bytes dropped, doubled, or replaced by any byte; what is no UTF-8 any more is replaced as HTTP does.
fn break_bytes(dice: &mut Dice, mut bytes: Vec<u8>) -> String {
    for _ in 0..=dice.below(4) {
        let position = dice.below(bytes.len());
        if bytes.is_empty() {
            break;
        }
        let any = u8::try_from(dice.below(256)).unwrap();
        match dice.below(5) {
            0 => drop(bytes.remove(position)),
            1 => bytes.insert(position, any),
            2 => bytes[position] = any,
            3 => bytes[position] ^= 1 << dice.below(8),
            _ => bytes.truncate(position),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What holds for every text; `Ok(true)` when it is a query.
fn check(text: &str) -> Result<bool, String> {
    drop(parse_selector_matchers(text));
    let expr = match parse_expr(text) {
        Ok(expr) => expr,
        Err(error) => {
            let message = error.to_string();
            return if message.contains("parse error: ") && message.len() > 20 {
                Ok(false)
            } else {
                Err(format!("an error without a place or a reason: {message}"))
            };
        }
    };
    let printed = expr.to_string();
    let tree = sorted(tree_json(&expr));
    if is_printed_with_loss(text, &printed) {
        return Ok(true);
    }
    for print in [printed.clone(), pretty(&expr)] {
        let again = parse_expr(&print).map_err(|error| format!("prints {print:?}: {error}"))?;
        // A number of milliseconds goes through a float of seconds, which may lose the last one, as in Prometheus.
        if printed.contains("ms") && !printed.contains('[') {
            continue;
        }
        if again.to_string() != printed {
            return Err(format!("prints {print:?}, which prints {again}"));
        }
        if sorted(tree_json(&again)) != tree {
            return Err(format!("prints {print:?}, which is another tree"));
        }
    }
    Ok(true)
}

/// A tree as far as it is printed: matchers in order.
fn sorted(mut tree: Value) -> Value {
    match &mut tree {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                *value = sorted(value.take());
                if let ("matchers", Value::Array(matchers)) = (name.as_str(), value) {
                    matchers.sort_by_key(ToString::to_string);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = sorted(item.take());
            }
        }
        // A duration prints no sign of a zero.
        Value::String(text) if text == "-0" => "0".clone_into(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
    tree
}

/// What Prometheus prints in a way it does not read back, and so do we: braces without matchers as nothing, text that is
/// not UTF-8, and the sign of infinity before `^`.
fn is_printed_with_loss(text: &str, printed: &str) -> bool {
    printed.contains(", )")
        || printed.contains(char::REPLACEMENT_CHARACTER)
        || text.contains(char::REPLACEMENT_CHARACTER)
        || printed.contains("Inf ^")
}

#[test]
fn no_text_breaks_the_parser_and_what_parses_reads_back() {
    let seed = settings::number("GAUNTLET_FUZZ_SEED").unwrap_or(1);
    let only = settings::number("GAUNTLET_FUZZ_ROUND");
    let began = Instant::now();
    let seconds = settings::number("GAUNTLET_FUZZ_SECONDS").map(Duration::from_secs);
    let (mut round, mut n_valid) = (only.unwrap_or(0), 0_u64);
    let mut failures = Vec::new();
    loop {
        let text = input(&mut Dice::new(seed, round));
        let checked = catch_unwind(|| check(&text)).unwrap_or_else(|_| Err("PANIC".to_owned()));
        match checked {
            Ok(is_valid) => n_valid += u64::from(is_valid),
            Err(why) => failures.push(format!("seed {seed} round {round}: {text:?}\n    {why}")),
        }
        round += 1;
        let is_over = match seconds {
            Some(seconds) => seconds <= began.elapsed(),
            None => ROUNDS <= round,
        };
        if is_over || only.is_some() || failures.len() == 20 {
            break;
        }
    }
    println!(
        "parser: {round} inputs, {n_valid} of them queries, {} failures",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(
        only.is_some() || round / 5 < n_valid,
        "only {n_valid} of {round} inputs are queries"
    );
}
