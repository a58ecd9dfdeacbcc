//! The label texts of several indexes as one sorted table.

use std::sync::Arc;

use crate::block::BlockSource;
use crate::compact::CompactError;
use crate::compact::merge::failed;
use crate::index::{IndexError, Symbols};
use crate::model::BlockId;

/// How the numbers of one index become those of the merged table.
#[derive(Debug, Default)]
pub(crate) struct SymbolMap {
    /// The source's references, where they are not simply counted; ascending.
    references: Vec<u32>,
    /// Merged numbers in the source's order.
    numbers: Vec<u32>,
}

impl SymbolMap {
    /// The merged number of the source's `reference`.
    pub(crate) fn get(&self, reference: u32) -> Option<u32> {
        let position = if self.references.is_empty() {
            reference as usize
        } else {
            self.references.binary_search(&reference).ok()?
        };
        self.numbers.get(position).copied()
    }

    fn push(&mut self, reference: u32, number: u32) {
        if self.references.is_empty() && reference as usize == self.numbers.len() {
            self.numbers.push(number);
            return;
        }
        if self.references.is_empty() {
            // The first reference of a version 1 index is an offset, so nothing was counted before it.
            self.references.reserve(self.numbers.capacity());
        }
        self.references.push(reference);
        self.numbers.push(number);
    }
}

/// The next text of one source.
struct Head<'a, I> {
    block: BlockId,
    /// What errors call its index.
    file: Arc<str>,
    rest: I,
    next: Option<(u32, &'a str)>,
    map: SymbolMap,
}

impl<'a, I: Iterator<Item = Result<(u32, &'a str), IndexError>>> Head<'a, I> {
    fn advance(&mut self) -> Result<(), CompactError> {
        let next = self.rest.next().transpose();
        let next = next.map_err(|error| failed(self.block, error.into()))?;
        let last = self.next.map(|(_, text)| text);
        if let (Some(last), Some((_, text))) = (last, next)
            && text <= last
        {
            // Numbers would not rise as texts do, and series would be taken for others.
            let problem = format!("symbol {text:?} comes after {last:?}");
            let error = IndexError::Damaged {
                file: Arc::clone(&self.file),
                offset: 0,
                problem,
            };
            return Err(failed(self.block, error.into()));
        }
        self.next = next;
        Ok(())
    }
}

/// Puts all texts, sorted, each once, and returns for every source the way from its numbers to theirs.
pub(crate) fn merge_symbols(
    sources: &[&dyn BlockSource],
    put: &mut dyn FnMut(&str) -> Result<(), CompactError>,
) -> Result<Vec<SymbolMap>, CompactError> {
    let mut heads = Vec::with_capacity(sources.len());
    for source in sources {
        let symbols: &Symbols = source.symbols();
        let mut map = SymbolMap::default();
        map.numbers.reserve_exact(symbols.len());
        let mut head = Head {
            block: source.meta().ulid,
            file: Arc::clone(symbols.file()),
            rest: symbols.references(),
            next: None,
            map,
        };
        head.advance()?;
        heads.push(head);
    }
    // The empty string names the list of all series, so Prometheus' symbols begin with it.
    put("")?;
    let mut number = 0u32;
    while let Some(least) = heads.iter().filter_map(|head| Some(head.next?.1)).min() {
        if !least.is_empty() {
            put(least)?;
            number = number.saturating_add(1);
        }
        for head in &mut heads {
            if let Some((reference, text)) = head.next
                && text == least
            {
                head.map.push(reference, number);
                head.advance()?;
            }
        }
    }
    Ok(heads.into_iter().map(|head| head.map).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_position_or_by_the_offsets_of_version_1() {
        let (mut counted, mut offsets) = (SymbolMap::default(), SymbolMap::default());
        for (position, number) in (0..).zip([0, 3, 4, 9]) {
            counted.push(position, number);
            offsets.push(13 + position * 5, number);
        }
        assert_eq!(
            [0, 1, 3, 4].map(|r| counted.get(r)),
            [Some(0), Some(3), Some(9), None]
        );
        assert_eq!(
            [13, 18, 28, 1].map(|r| offsets.get(r)),
            [Some(0), Some(3), Some(9), None]
        );
    }

    fn head<'a>(
        texts: &[&'a str],
    ) -> Head<'a, std::vec::IntoIter<Result<(u32, &'a str), IndexError>>> {
        let texts: Vec<_> = (0..).zip(texts).map(|(n, text)| Ok((n, *text))).collect();
        Head {
            block: BlockId::from_parts(1, 1),
            file: Arc::from("index"),
            rest: texts.into_iter(),
            next: None,
            map: SymbolMap::default(),
        }
    }

    #[test]
    fn symbols_that_do_not_rise_are_damage_of_their_block() {
        let mut head = head(&["", "a", "c", "b"]);
        for _ in 0..3 {
            head.advance().unwrap();
        }
        let error = head.advance().unwrap_err();
        assert_eq!(error.culprit(), Some(BlockId::from_parts(1, 1)));
        assert!(
            error.to_string().contains("symbol \"b\" comes after \"c\""),
            "{error}"
        );
    }
}
