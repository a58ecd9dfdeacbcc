//! The strings of the source as those of the result.

use std::sync::Arc;

use crate::block::BlockSource;
use crate::downsample::error::DownsampleError;
use crate::index::IndexError;

/// Where each reference of the source stands among the strings of the result.
pub(crate) struct SymbolTable {
    /// References of the source, ascending; empty where they are simply counted.
    references: Vec<u32>,
    n: u32,
    /// The empty string stands first, as in Prometheus' indexes, and the source lacks it.
    offset: u32,
}

impl SymbolTable {
    /// Copies them all into the result.
    pub(crate) fn copy(
        source: &dyn BlockSource,
        put: &mut dyn FnMut(&str) -> Result<(), DownsampleError>,
    ) -> Result<Self, DownsampleError> {
        let symbols = source.symbols();
        let block = source.meta().ulid;
        let failed = |error: IndexError| DownsampleError::Source {
            block,
            source: error.into(),
        };
        let mut table = Self {
            references: Vec::new(),
            n: 0,
            offset: 0,
        };
        let mut last: Option<&str> = None;
        for symbol in symbols.references() {
            let (reference, text) = symbol.map_err(failed)?;
            if let Some(last) = last
                && text <= last
            {
                let problem = format!("symbol {text:?} comes after {last:?}");
                return Err(failed(IndexError::Damaged {
                    file: Arc::clone(symbols.file()),
                    offset: 0,
                    problem,
                }));
            }
            if last.is_none() && !text.is_empty() {
                put("")?;
                table.offset = 1;
            }
            put(text)?;
            last = Some(text);
            if reference != table.n || !table.references.is_empty() {
                // The first reference of a version 1 index is an offset, so nothing was counted before it.
                table.references.push(reference);
            }
            table.n = table.n.saturating_add(1);
        }
        if last.is_none() {
            put("")?;
        }
        Ok(table)
    }

    /// The place of the source's `reference` among the strings.
    pub(crate) fn place(&self, reference: u32) -> Option<u32> {
        let at = if self.references.is_empty() {
            Some(reference).filter(|at| *at < self.n)
        } else {
            let at = self.references.binary_search(&reference).ok()?;
            u32::try_from(at).ok()
        };
        at?.checked_add(self.offset)
    }
}
