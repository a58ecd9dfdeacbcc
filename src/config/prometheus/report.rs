//! What is wrong with a file, and what is ignored in it.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

/// One remark about one key: a refusal or a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Which file.
    pub file: PathBuf,
    /// Which line, 1-based; 0 when the file could not be read at all.
    pub line: u64,
    /// Which key, with the way to it, as in `scrape_configs[0].scheme`; empty for the whole file.
    pub key: String,
    /// What stands there; never a secret.
    pub value: Option<String>,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

/// `prometheus.yml:7: scrape_configs[0].scheme = "ftp": expected http or https`
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// Collects remarks while a file is read.
#[derive(Debug)]
pub(in crate::config) struct Report {
    file: PathBuf,
    complaints: RefCell<Vec<Complaint>>,
    warnings: RefCell<Vec<Complaint>>,
}

impl Report {
    pub(in crate::config) fn new(file: PathBuf) -> Self {
        Self {
            file,
            complaints: RefCell::new(Vec::new()),
            warnings: RefCell::new(Vec::new()),
        }
    }

    pub(in crate::config) fn file(&self) -> &PathBuf {
        &self.file
    }

    pub(in crate::config) fn complain(
        &self,
        line: u64,
        key: &str,
        value: Option<&str>,
        problem: &str,
    ) {
        self.complaints
            .borrow_mut()
            .push(self.remark(line, key, value, problem));
    }

    pub(in crate::config) fn warn(&self, line: u64, key: &str, value: Option<&str>, problem: &str) {
        self.warnings
            .borrow_mut()
            .push(self.remark(line, key, value, problem));
    }

    /// Everything that was said, in file order: complaints, then warnings.
    pub(in crate::config) fn into_parts(self) -> (Vec<Complaint>, Vec<Complaint>) {
        let (mut complaints, mut warnings) =
            (self.complaints.into_inner(), self.warnings.into_inner());
        complaints.sort_by_key(|complaint| complaint.line);
        warnings.sort_by_key(|warning| warning.line);
        (complaints, warnings)
    }

    fn remark(&self, line: u64, key: &str, value: Option<&str>, problem: &str) -> Complaint {
        Complaint {
            file: self.file.clone(),
            line,
            key: key.to_owned(),
            value: value.map(str::to_owned),
            problem: problem.to_owned(),
        }
    }
}
