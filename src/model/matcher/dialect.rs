//! Go's regular expressions in the words of the `regex` crate.

/// Rewrites what Go's RE2 takes and the `regex` crate does not, or not in the same sense: `\Q…\E`, octal escapes, classes and
/// word boundaries of ASCII, `{` as a literal, classes without set operations. What Go refuses is found by [`fault`].
pub fn translate_go_pattern(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let tail = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '\\' => {
                rest = translate_escape(tail, in_class, &mut out);
                continue;
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                let negated = tail.strip_prefix('^');
                if negated.is_some() {
                    out.push('^');
                }
                let mut after = negated.unwrap_or(tail);
                // A `]` right after the bracket is a member, in Go and here alike.
                if let Some(more) = after.strip_prefix(']') {
                    out.push_str("\\]");
                    after = more;
                }
                rest = after;
                continue;
            }
            // Go has no nested classes and no set operations: these are members.
            '[' if !tail.starts_with(':') => out.push_str("\\["),
            '[' => {
                let (name, after) = tail.split_once(":]").unwrap_or((tail, ""));
                out.push('[');
                out.push_str(name);
                out.push_str(":]");
                rest = after;
                continue;
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && tail.starts_with('-') => out.push_str("\\-"),
            '{' if !in_class && is_repetition(tail) => {
                rest = copy_braces(rest, &mut out);
                continue;
            }
            '{' | '}' if !in_class => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
        rest = tail;
    }
    out
}

/// Translates what follows a backslash and returns what comes after it.
fn translate_escape<'a>(tail: &'a str, in_class: bool, out: &mut String) -> &'a str {
    if let Some(quoted) = tail.strip_prefix('Q').filter(|_| !in_class) {
        let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
        out.push_str(&regex::escape(literal));
        return after;
    }
    let n_octal = tail
        .bytes()
        .take(3)
        .take_while(|b| matches!(b, b'0'..=b'7'))
        .count();
    if n_octal > 1 || tail.starts_with('0') {
        let (digits, after) = tail.split_at_checked(n_octal).unwrap_or((tail, ""));
        let value = u32::from_str_radix(digits, 8).unwrap_or_default();
        out.push_str(&format!("\\x{{{value:x}}}"));
        return after;
    }
    out.push('\\');
    let Some(escaped) = tail.chars().next() else {
        return tail;
    };
    let after = tail.get(escaped.len_utf8()..).unwrap_or_default();
    if let Some(ascii) = ascii_meaning(escaped, in_class) {
        out.pop();
        out.push_str(ascii);
        return after;
    }
    if let Some(name) = after.strip_prefix("{^")
        && matches!(escaped, 'p' | 'P')
    {
        // A property that is negated twice is itself.
        out.push_str(if escaped == 'p' { "P{" } else { "p{" });
        return copy_braces(name, out);
    }
    out.push(escaped);
    if matches!(escaped, 'x' | 'p' | 'P') && after.starts_with('{') {
        return copy_braces(after, out);
    }
    after
}

/// Classes and word boundaries are those of ASCII in Go, and an escaped sign is itself.
fn ascii_meaning(escaped: char, in_class: bool) -> Option<&'static str> {
    Some(match (escaped, in_class) {
        ('d', true) => "0-9",
        ('d', false) => "[0-9]",
        ('D', _) => "[^0-9]",
        ('s', true) => r"\t\n\x0c\r ",
        ('s', false) => r"[\t\n\x0c\r ]",
        ('S', _) => r"[^\t\n\x0c\r ]",
        ('w', true) => "0-9A-Za-z_",
        ('w', false) => "[0-9A-Za-z_]",
        ('W', _) => "[^0-9A-Za-z_]",
        ('b', false) => r"(?-u:\b)",
        ('B', false) => r"(?-u:\B)",
        ('<', _) => "<",
        ('>', _) => ">",
        _ => return None,
    })
}

/// `n}`, `n,}` or `n,m}`: what makes Go read a `{` as a repetition.
fn is_repetition(tail: &str) -> bool {
    let Some((inside, _)) = tail.split_once('}') else {
        return false;
    };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    let is_number = |digits: &str| {
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() < 2 || !digits.starts_with('0'))
    };
    !low.is_empty() && is_number(low) && is_number(high)
}

/// Copies from an opening brace to its end and returns what follows.
fn copy_braces<'a>(rest: &'a str, out: &mut String) -> &'a str {
    match rest.split_once('}') {
        Some((inside, after)) => {
            out.push_str(inside);
            out.push('}');
            after
        }
        None => {
            out.push_str(rest);
            ""
        }
    }
}

/// Why Go refuses a pattern that the `regex` crate would read in its own way; in Go's words.
pub(super) fn fault(pattern: &str) -> Option<String> {
    let mut rest = pattern;
    // Where the repetition that was just read begins.
    let mut repeated: Option<&str> = None;
    while let Some(c) = rest.chars().next() {
        let tail = rest.get(c.len_utf8()..).unwrap_or_default();
        let before = repeated.take();
        rest = match c {
            '\\' => match escape_fault(tail) {
                Ok(after) => after,
                Err(fault) => return Some(fault),
            },
            '[' => match class_fault(rest) {
                Ok(after) => after,
                Err(fault) => return Some(fault),
            },
            '(' if tail.starts_with('?') => match flags_fault(rest) {
                Ok(after) => after,
                Err(fault) => return Some(fault),
            },
            '*' | '+' | '?' | '{' if c != '{' || is_repetition(tail) => {
                let end = if c == '{' {
                    tail.split_once('}').map_or("", |(_, after)| after)
                } else {
                    tail
                };
                if c == '{' && is_oversized(tail) {
                    return Some(quoted("invalid repeat count", until(rest, end)));
                }
                let after = end.strip_prefix('?').unwrap_or(end);
                if let Some(start) = before {
                    return Some(quoted(
                        "invalid nested repetition operator",
                        until(start, after),
                    ));
                }
                repeated = Some(rest);
                after
            }
            _ => tail,
        };
    }
    None
}

fn quoted(what: &str, part: &str) -> String {
    format!("{what}: `{part}`")
}

/// What stands before `after`, its end.
fn until<'a>(text: &'a str, after: &str) -> &'a str {
    text.get(..text.len() - after.len()).unwrap_or(text)
}

/// More than a thousand repetitions, or the most are fewer than the least.
fn is_oversized(tail: &str) -> bool {
    const REPETITIONS_MAX: u32 = 1000;
    let inside = tail.split_once('}').map_or("", |(inside, _)| inside);
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    let number = |digits: &str| digits.parse::<u32>().unwrap_or(u32::MAX);
    let high = if high.is_empty() {
        number(low)
    } else {
        number(high)
    };
    REPETITIONS_MAX < number(low) || REPETITIONS_MAX < high || high < number(low)
}

/// What follows an escape, given what follows its backslash.
fn escape_fault(tail: &str) -> Result<&str, String> {
    let Some(c) = tail.chars().next() else {
        return Err("trailing backslash at end of expression: ``".to_owned());
    };
    let after = tail.get(c.len_utf8()..).unwrap_or_default();
    if c == 'Q' {
        return Ok(after.split_once("\\E").map_or("", |(_, after)| after));
    }
    let is_known = match c {
        '1'..='7' => after.starts_with(|next| matches!(next, '0'..='7')),
        '8' | '9' => false,
        _ if c.is_ascii_alphabetic() => "ABDPSWabdfnprstvwxz".contains(c),
        _ => c.is_ascii(),
    };
    if !is_known {
        return Err(quoted("invalid escape sequence", &format!("\\{c}")));
    }
    Ok(after)
}

/// What follows the opening of a group with flags or a name.
fn flags_fault(group: &str) -> Result<&str, String> {
    let inside = group.get(2..).unwrap_or_default();
    if inside.starts_with("P<") || inside.starts_with('<') && !inside.starts_with(['=', '!']) {
        return Ok(inside);
    }
    for (at, c) in inside.char_indices() {
        match c {
            ':' | ')' if at > 0 || c == ':' => {
                return Ok(inside.get(at + 1..).unwrap_or_default());
            }
            'i' | 'm' | 's' | 'U' | '-' => {}
            _ => {
                let end = inside.get(at + c.len_utf8()..).unwrap_or_default();
                return Err(quoted(
                    "invalid or unsupported Perl syntax",
                    until(group, end),
                ));
            }
        }
    }
    Err(quoted("invalid or unsupported Perl syntax", group))
}

/// What follows a class of characters; a range has to ascend.
fn class_fault(class: &str) -> Result<&str, String> {
    let mut rest = class.get(1..).unwrap_or_default();
    rest = rest.strip_prefix('^').unwrap_or(rest);
    let mut is_first = true;
    loop {
        let Some(c) = rest.chars().next() else {
            return Err(quoted("missing closing ]", class));
        };
        if c == ']' && !is_first {
            return Ok(rest.get(1..).unwrap_or_default());
        }
        is_first = false;
        if rest.starts_with("[:")
            && let Some((_, after)) = rest.split_once(":]")
        {
            rest = after;
            continue;
        }
        let start = rest;
        let low;
        (low, rest) = class_char(rest)?;
        if rest.starts_with('-') && !rest.starts_with("-]") && rest.len() > 1 {
            let high;
            (high, rest) = class_char(rest.get(1..).unwrap_or_default())?;
            if let (Some(low), Some(high)) = (low, high)
                && high < low
            {
                return Err(quoted("invalid character class range", until(start, rest)));
            }
        }
    }
}

/// One member of a class, where it is written as itself, and what follows it.
fn class_char(text: &str) -> Result<(Option<char>, &str), String> {
    let mut chars = text.chars();
    let c = chars.next();
    if c == Some('\\') {
        return Ok((None, escape_fault(chars.as_str())?));
    }
    Ok((c, chars.as_str()))
}
