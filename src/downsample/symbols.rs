//! The strings of the source as those of the result.

use std::sync::Arc;

use crate::block::{BlockError, BlockSource};
use crate::index::IndexError;

/// All strings, and where each reference of the source stands among them.
pub(crate) struct SymbolTable {
    /// References of the source, ascending.
    references: Vec<u32>,
    /// References are simply counted: version 2.
    is_counted: bool,
    /// The empty string stands first, as in Prometheus' indexes, and the source lacks it.
    offset: u32,
}

impl SymbolTable {
    /// Reads them all; they come back for the writer.
    pub(crate) fn read(source: &dyn BlockSource) -> Result<(Vec<Arc<str>>, Self), BlockError> {
        let symbols = source.symbols();
        let mut texts: Vec<Arc<str>> = Vec::with_capacity(symbols.len() + 1);
        let mut references = Vec::with_capacity(symbols.len());
        for symbol in symbols.references() {
            let (reference, text) = symbol?;
            if let Some(last) = texts.last()
                && *text <= **last
            {
                let problem = format!("symbol {text:?} comes after {last:?}");
                return Err(BlockError::Index(IndexError::Damaged {
                    file: Arc::clone(symbols.file()),
                    offset: 0,
                    problem,
                }));
            }
            references.push(reference);
            texts.push(Arc::from(text));
        }
        let has_empty = texts.first().is_some_and(|first| first.is_empty());
        if !has_empty {
            texts.insert(0, Arc::from(""));
        }
        let is_counted = (0..)
            .zip(&references)
            .all(|(at, reference)| at == *reference);
        let table = Self {
            references,
            is_counted,
            offset: u32::from(!has_empty),
        };
        Ok((texts, table))
    }

    /// The place of the source's `reference` among the strings.
    pub(crate) fn place(&self, reference: u32) -> Option<u32> {
        let at = if self.is_counted {
            Some(reference).filter(|at| (*at as usize) < self.references.len())
        } else {
            let at = self.references.binary_search(&reference).ok()?;
            u32::try_from(at).ok()
        };
        at?.checked_add(self.offset)
    }
}
