//! Go's regular expressions in the words of the `regex` crate.

/// Rewrites what Go's RE2 takes and the `regex` crate does not: `\Q…\E`, octal escapes, `\C`-free, `{` as a literal.
///
/// The other direction (`a++`, `a{,2}`, class set operations) is left to the crate, which reads them its own way.
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
    out.push(escaped);
    let after = tail.get(escaped.len_utf8()..).unwrap_or_default();
    if matches!(escaped, 'x' | 'p' | 'P') && after.starts_with('{') {
        return copy_braces(after, out);
    }
    after
}

/// `n}`, `n,}` or `n,m}`: what makes Go read a `{` as a repetition.
fn is_repetition(tail: &str) -> bool {
    let Some((inside, _)) = tail.split_once('}') else {
        return false;
    };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    !low.is_empty() && low.bytes().chain(high.bytes()).all(|b| b.is_ascii_digit())
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
