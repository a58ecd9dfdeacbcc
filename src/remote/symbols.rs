//! The strings of a request of version 2, which everything else names by number.

use crate::foundation::proto::{Fields, ProtoError, Slice, Value};

/// More strings than any request needs.
const SYMBOLS_MAX: usize = 1 << 20;

/// The symbol table of one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Symbols<'a> {
    request: &'a [u8],
    /// Where each begins and how long it is.
    places: Vec<(u32, u32)>,
}

impl<'a> Symbols<'a> {
    /// Collects field 4 of a request.
    pub(super) fn read(request: &'a [u8]) -> Result<Self, ProtoError> {
        let mut fields = Fields::new(
            Slice {
                bytes: request,
                offset: 0,
            },
            "Request",
        );
        let mut places = Vec::new();
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (4, Value::Bytes(text)) => {
                    let place = u32::try_from(text.offset).ok();
                    let len = u32::try_from(text.bytes.len()).ok();
                    let Some(place) = place.zip(len).filter(|_| places.len() < SYMBOLS_MAX) else {
                        return Err(fields.error("more than 1048576 symbols, or 4 GiB of them"));
                    };
                    places.push(place);
                }
                (4, _) => return Err(fields.error("wrong wire type")),
                _ => (),
            }
        }
        Ok(Self { request, places })
    }

    /// The string of this number; `None` when there is none or it is not UTF-8.
    pub(super) fn get(&self, number: u64) -> Option<&'a str> {
        let (place, len) = *self.places.get(usize::try_from(number).ok()?)?;
        let start = usize::try_from(place).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        str::from_utf8(self.request.get(start..end)?).ok()
    }
}
