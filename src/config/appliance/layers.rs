//! Where values come from: layers, the later over the earlier.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::appliance::complaint::Complaint;

/// Every key with its default and a sentence about it.
pub const SHIPPED: &str = include_str!("../../../appliance.toml");
/// What the shipped values come from, as complaints name it.
const SHIPPED_ORIGIN: &str = "appliance.toml (compiled in)";
/// Variables of the environment that are ours start with this.
const PREFIX: &str = "GAUNTLET__";
/// Larger files are not configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What was given at the start, beside the compiled-in defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// `--config`; `conf.d` is looked for beside it.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// `--set` and the flags that stand for keys: dotted key and value.
    pub set: Vec<(String, String)>,
}

/// Values of one origin by dotted key.
#[derive(Debug, Clone, Default)]
struct Layer(BTreeMap<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone().into_iter().collect())
    }
}

/// All layers as one flat table by dotted key, and what is wrong with the layers themselves.
pub(super) fn merged(given: &Given) -> (BTreeMap<String, Value>, Vec<Complaint>) {
    let mut complaints = Vec::new();
    let mut layers = vec![read_toml(SHIPPED, SHIPPED_ORIGIN, &mut complaints)];
    if let Some(file) = &given.file {
        layers.push(read_file(file, &mut complaints));
        for more in files_beside(file, &mut complaints) {
            layers.push(read_file(&more, &mut complaints));
        }
    }
    layers.push(read_environment(&given.environment));
    layers.push(read_set(&given.set));
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    match builder.build() {
        Ok(merged) => {
            let mut flat = BTreeMap::new();
            flatten("", merged.cache, &mut flat);
            (flat, complaints)
        }
        Err(error) => {
            complaints.push(Complaint::about("configuration", &error.to_string()));
            (BTreeMap::new(), complaints)
        }
    }
}

/// Keys that exist, as dotted paths.
pub(super) fn shipped_keys() -> Vec<String> {
    let layer = read_toml(SHIPPED, SHIPPED_ORIGIN, &mut Vec::new());
    layer.0.into_keys().collect()
}

fn read_file(path: &Path, complaints: &mut Vec<Complaint>) -> Layer {
    let read = || -> std::io::Result<String> {
        if FILE_BYTES_MAX < fs::metadata(path)?.len() {
            let problem = format!("larger than {FILE_BYTES_MAX} bytes");
            return Err(std::io::Error::other(problem));
        }
        fs::read_to_string(path)
    };
    let origin = path.display().to_string();
    match read() {
        Ok(text) => read_toml(&text, &origin, complaints),
        Err(error) => {
            complaints.push(Complaint::about(
                &origin,
                &format!("read the file: {error}"),
            ));
            Layer::default()
        }
    }
}

/// `conf.d/*.toml` beside the file, in name order.
fn files_beside(file: &Path, complaints: &mut Vec<Complaint>) -> Vec<PathBuf> {
    let dir = file.with_file_name("conf.d");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            let origin = dir.display().to_string();
            complaints.push(Complaint::about(
                &origin,
                &format!("list the files: {error}"),
            ));
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort_unstable();
    files
}

fn read_toml(text: &str, origin: &str, complaints: &mut Vec<Complaint>) -> Layer {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut layer = Layer::default();
    if !errors.is_empty() {
        complaints.extend(errors.iter().map(|error| {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            Complaint::about(&format!("{origin}:{line}"), error.message())
        }));
        // What could be guessed of a broken file would only draw more complaints.
        return layer;
    }
    read_table("", table.get_ref(), &mut |key, value| {
        let place = format!("{origin}:{}", line_of(text, value.span().start));
        layer.0.insert(key, to_value(value.get_ref(), &place));
    });
    layer
}

fn read_table(
    way: &str,
    table: &DeTable<'_>,
    found: &mut impl FnMut(String, &Spanned<DeValue<'_>>),
) {
    for (key, value) in table {
        let key = join(way, key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => read_table(&key, inner, found),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => found(key, value),
        }
    }
}

fn to_value(value: &DeValue<'_>, place: &str) -> Value {
    let kind = match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Boolean(is_true) => ValueKind::Boolean(*is_true),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(
                |_too_long| ValueKind::String(number.to_string()),
                ValueKind::I64,
            ),
        DeValue::Float(number) => ValueKind::String(number.to_string()),
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
        DeValue::Array(_) => ValueKind::String("[…]".to_owned()),
        DeValue::Table(_) => ValueKind::Nil,
    };
    Value::new(Some(&place.to_owned()), kind)
}

fn read_environment(environment: &[(String, String)]) -> Layer {
    let mut layer = Layer::default();
    for (name, value) in environment {
        if let Some(path) = name.strip_prefix(PREFIX) {
            let key = path.to_lowercase().replace("__", ".");
            let origin = format!("environment variable {name}");
            let value = Value::new(Some(&origin), ValueKind::String(value.clone()));
            layer.0.insert(key, value);
        }
    }
    layer
}

fn read_set(set: &[(String, String)]) -> Layer {
    let mut layer = Layer::default();
    for (key, value) in set {
        let origin = "command line".to_owned();
        let value = Value::new(Some(&origin), ValueKind::String(value.clone()));
        layer.0.insert(key.clone(), value);
    }
    layer
}

fn flatten(way: &str, value: Value, flat: &mut BTreeMap<String, Value>) {
    if let ValueKind::Table(table) = value.kind {
        for (key, value) in table.into_iter().collect::<BTreeMap<_, _>>() {
            flatten(&join(way, &key), value, flat);
        }
    } else {
        flat.insert(way.to_owned(), value);
    }
}

fn join(way: &str, key: &str) -> String {
    match way {
        "" => key.to_owned(),
        way => format!("{way}.{key}"),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    1 + before.filter(|byte| *byte == b'\n').count()
}
