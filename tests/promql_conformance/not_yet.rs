//! The list of questions that cannot be answered yet.
//!
//! One line each: file, line number, checksum of the query, reason, separated by blanks. The same question may stand at
//! several line numbers of the same file, because editions of a script differ.

use std::collections::BTreeSet;
use std::path::Path;

use gauntlet::foundation::checksum::crc32c;
use gauntlet::promql::testing::CaseResult;

/// The list, and what would have to be added to it.
pub(crate) struct NotYet {
    listed: BTreeSet<(String, usize, u32)>,
    missing: Vec<String>,
}

impl NotYet {
    /// Reads the list; every line has to be understood.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mut listed = BTreeSet::new();
        for (position, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || format!("line {}: {line:?} is not an entry", position + 1);
            let mut words = line.split_whitespace();
            let file = words.next().ok_or_else(wrong)?;
            let number = words
                .next()
                .and_then(|word| word.parse().ok())
                .ok_or_else(wrong)?;
            let sum = words
                .next()
                .and_then(|word| u32::from_str_radix(word, 16).ok())
                .ok_or_else(wrong)?;
            words.next().ok_or_else(wrong)?;
            if !listed.insert((file.to_owned(), number, sum)) {
                return Err(format!("line {}: {line:?} is there twice", position + 1));
            }
        }
        Ok(Self {
            listed,
            missing: Vec::new(),
        })
    }

    pub(crate) fn contains(&self, file: &str, line: usize, expr: &str) -> bool {
        let key = (file.to_owned(), line, crc32c(expr.as_bytes()));
        self.listed.contains(&key)
    }

    /// Remembers a failure that could be listed.
    pub(crate) fn note(&mut self, file: &str, result: &CaseResult) {
        let reason = if result.has_histograms {
            "native-histogram"
        } else if result.has_start_times {
            "start-time"
        } else {
            return;
        };
        let sum = crc32c(result.expr.as_bytes());
        self.missing
            .push(format!("{file} {} {sum:08x} {reason}", result.line));
    }

    /// Prints the lines that would have to be added, when asked to.
    #[expect(clippy::print_stdout, reason = "this is a test program of its own")]
    pub(crate) fn report(&self) {
        if std::env::var_os("GAUNTLET_PROMQL_PRINT_NOT_YET").is_some() {
            for line in &self.missing {
                println!("NOT-YET {line}");
            }
        }
    }
}
