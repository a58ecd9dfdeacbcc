//! The configuration as text without its secrets.

use std::fmt::Write;

use crate::config::yaml::{Entry, Node, Value};

/// What stands for a secret, as Prometheus writes it.
const SECRET: &str = "<secret>";

/// Keys whose values are secrets wherever they stand outside of labels and parameters.
const SECRET_KEYS: [&str; 20] = [
    "api_key",
    "api_token",
    "application_credential_secret",
    "application_secret",
    "auth_token",
    "bearer_token",
    "client_certificate_key",
    "client_secret",
    "consumer_key",
    "credentials",
    "key",
    "password",
    "private_key",
    "proxy_connect_header",
    "secret",
    "secret_key",
    "secrets",
    "service_account_key",
    "token",
    "opsgenie_api_key",
];

/// Mappings whose keys are the user's own words.
const OPEN_MAPS: [&str; 3] = ["labels", "external_labels", "params"];

/// Writes the tree as YAML, in the order of the file, secrets replaced.
pub(super) fn redacted(node: &Node) -> String {
    let mut out = String::new();
    match &node.value {
        Value::Null => (),
        Value::Scalar { .. } => {
            push_scalar(&mut out, node, Hide::Nothing);
            out.push('\n');
        }
        Value::Seq(items) => push_items(&mut out, items, 0, Hide::Nothing),
        Value::Map(entries) => push_entries(&mut out, entries, 0, Hide::Nothing),
    }
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hide {
    /// Below labels nothing is a secret.
    Never,
    /// Only what a key below says.
    Nothing,
    /// Passwords inside URLs.
    UrlPassword,
    /// Every scalar.
    All,
}

impl Hide {
    fn below(self, key: &str) -> Self {
        match self {
            Self::Never | Self::All => self,
            Self::Nothing | Self::UrlPassword if OPEN_MAPS.contains(&key) => Self::Never,
            Self::Nothing | Self::UrlPassword if SECRET_KEYS.contains(&key) => Self::All,
            Self::Nothing | Self::UrlPassword if key == "url" || key.ends_with("_url") => {
                Self::UrlPassword
            }
            Self::Nothing | Self::UrlPassword => Self::Nothing,
        }
    }
}

fn push_entries(out: &mut String, entries: &[Entry], indent: usize, hide: Hide) {
    for (position, entry) in entries.iter().enumerate() {
        if position > 0 || indent == 0 {
            push_indent(out, indent);
        }
        push_text(out, &entry.key, true);
        out.push(':');
        push_value(out, &entry.value, indent, hide.below(&entry.key));
    }
}

fn push_value(out: &mut String, node: &Node, indent: usize, hide: Hide) {
    match &node.value {
        Value::Null => out.push_str(" null\n"),
        Value::Scalar { .. } => {
            out.push(' ');
            push_scalar(out, node, hide);
            out.push('\n');
        }
        Value::Seq(items) if items.is_empty() => out.push_str(" []\n"),
        Value::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
        Value::Seq(items) => {
            out.push('\n');
            push_items(out, items, indent, hide);
        }
        Value::Map(entries) => {
            out.push('\n');
            push_indent(out, indent + 2);
            push_entries(out, entries, indent + 2, hide);
        }
    }
}

fn push_items(out: &mut String, items: &[Node], indent: usize, hide: Hide) {
    for item in items {
        push_indent(out, indent);
        out.push('-');
        match &item.value {
            Value::Map(entries) if !entries.is_empty() => {
                out.push(' ');
                push_entries(out, entries, indent + 2, hide);
            }
            Value::Seq(items) if !items.is_empty() => {
                out.push('\n');
                push_items(out, items, indent + 2, hide);
            }
            Value::Null | Value::Scalar { .. } | Value::Seq(_) | Value::Map(_) => {
                push_value(out, item, indent, hide);
            }
        }
    }
}

fn push_scalar(out: &mut String, node: &Node, hide: Hide) {
    let Value::Scalar { text, plain } = &node.value else {
        return;
    };
    match hide {
        Hide::All if !text.is_empty() => out.push_str(SECRET),
        Hide::UrlPassword => push_text(out, &without_password(text), *plain),
        Hide::Never | Hide::Nothing | Hide::All => push_text(out, text, *plain),
    }
}

/// `http://user:password@host` with the password crossed out.
fn without_password(text: &str) -> String {
    let hidden = || {
        let (scheme, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let (user_info, host) = authority.rsplit_once('@')?;
        let (user, _password) = user_info.split_once(':')?;
        Some(format!("{scheme}://{user}:xxxxx@{host}{path}"))
    };
    hidden().unwrap_or_else(|| text.to_owned())
}

/// Plain text stays as it was written; everything else is put in double quotes.
fn push_text(out: &mut String, text: &str, plain: bool) {
    let is_safe = plain
        && !text.is_empty()
        && !text.contains(['\n', '\r'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with(':')
        && !text.starts_with([
            '-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%',
            '@', '`', ' ',
        ]);
    if is_safe {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                write!(out, "\\u{:04x}", u32::from(c)).ok();
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn push_indent(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::parse;

    #[test]
    fn secrets_are_replaced_and_the_rest_reads_back_equal() {
        let text = "global:\n  external_labels:\n    token: visible\nscrape_configs:\n- job_name: \"a: b\"\n  basic_auth:\n    username: me\n    password: hunter2\n  proxy_url: http://u:pw@proxy:1/x\n  tls_config: {key: 'PRIVATE', ca: \"A\\nB\"}\n  http_headers:\n    X-A:\n      values: [one]\n      secrets: [two, 3]\n  static_configs:\n  - targets: ['x:1', 0123]\n    labels: {password: seen}\n  - targets: []\n  bearer_token: \"\"\n";
        let out = redacted(&parse(text).unwrap());
        for hidden in ["hunter2", "PRIVATE", "pw@", "two"] {
            assert!(!out.contains(hidden), "{hidden} in {out}");
        }
        for seen in [
            "token: visible",
            "password: seen",
            "http://u:xxxxx@proxy:1/x",
            "ca: \"A\\nB\"",
            "- 0123",
            "targets: []",
            "bearer_token: \"\"",
        ] {
            assert!(out.contains(seen), "{seen} not in {out}");
        }
        let again = redacted(&parse(&out).unwrap());
        assert_eq!(again, out);
    }
}
