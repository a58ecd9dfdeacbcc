//! A body made of pieces: its length is told beforehand, and nobody has to put the pieces together.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

/// A text being written, in pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    /// What is written now.
    pub(super) out: Vec<u8>,
}

impl Pieces {
    /// Begins with `text`.
    pub(super) fn of(text: &[u8]) -> Self {
        Self {
            done: Vec::new(),
            out: text.to_vec(),
        }
    }

    /// Puts pieces that are written already behind what is there; what is written from now on goes behind the last of
    /// them, for a few bytes by themselves would be a packet of their own.
    pub(super) fn extend(&mut self, mut pieces: Vec<Vec<u8>>) {
        let Some(last) = pieces.pop() else { return };
        self.done
            .push(std::mem::replace(&mut self.out, last).into());
        self.done.extend(pieces.into_iter().map(Bytes::from));
    }

    /// The whole as a body.
    pub(super) fn into_body(mut self) -> BoxBody {
        if self.done.is_empty() {
            return BoxBody::new(self.out);
        }
        self.done.push(self.out.into());
        BoxBody::new(Portions::new(self.done))
    }
}

/// Pieces that are sent one after another.
struct Portions {
    rest: std::vec::IntoIter<Bytes>,
    n_bytes: u64,
}

impl Portions {
    /// In this order.
    fn new(pieces: Vec<Bytes>) -> Self {
        Self {
            n_bytes: pieces.iter().map(|piece| piece.len() as u64).sum(),
            rest: pieces.into_iter(),
        }
    }
}

impl MessageBody for Portions {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.n_bytes)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.rest.next().map(Ok))
    }
}
