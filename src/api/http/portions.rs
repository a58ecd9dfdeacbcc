//! A body made of pieces that nobody has to put together. Its length is told beforehand, unless it is so long that it is
//! written while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use crate::api::http::columns::PartStream;

/// A text being written, in pieces.
#[derive(Default)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    /// What is written behind them while they are sent.
    stream: Option<PartStream>,
    /// What is written now.
    pub(super) out: Vec<u8>,
}

impl Pieces {
    /// Begins with `text`.
    pub(super) fn of(text: &[u8]) -> Self {
        Self {
            done: Vec::new(),
            stream: None,
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

    /// Puts what is still to be written behind what is there; only once.
    pub(super) fn stream(&mut self, stream: PartStream) {
        self.done.push(std::mem::take(&mut self.out).into());
        self.stream = Some(stream);
    }

    /// The whole as a body.
    pub(super) fn into_body(mut self) -> BoxBody {
        if self.done.is_empty() {
            return BoxBody::new(self.out);
        }
        if self.stream.is_none() {
            self.done.push(std::mem::take(&mut self.out).into());
        }
        let n_bytes = self.done.iter().map(|piece| piece.len() as u64).sum();
        BoxBody::new(Portions {
            size: match &self.stream {
                None => BodySize::Sized(n_bytes),
                Some(_) => BodySize::Stream,
            },
            done: self.done.into_iter(),
            stream: self.stream,
            end: self.out,
        })
    }
}

/// Pieces that are sent one after another.
struct Portions {
    size: BodySize,
    done: std::vec::IntoIter<Bytes>,
    stream: Option<PartStream>,
    end: Vec<u8>,
}

impl MessageBody for Portions {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        if let Some(piece) = self.done.next() {
            return Poll::Ready(Some(Ok(piece)));
        }
        if let Some(part) = self.stream.as_mut().and_then(Iterator::next) {
            return Poll::Ready(Some(Ok(part.into())));
        }
        let end = std::mem::take(&mut self.end);
        Poll::Ready((!end.is_empty()).then(|| Ok(end.into())))
    }
}
