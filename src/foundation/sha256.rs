//! SHA-256, as `meta.json` names files' contents.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ring::digest::{Context, SHA256};

/// Bytes of a file that are in memory at once.
const PIECE_BYTES: usize = 256 << 10;

/// A digest that grows piece by piece.
#[derive(Clone)]
pub struct Sha256(Context);

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sha256").finish_non_exhaustive()
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Sha256 {
    /// Continues with `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest in hexadecimal.
    pub fn finish(self) -> String {
        let digest = self.0.finish();
        let mut text = String::with_capacity(2 * digest.as_ref().len());
        for byte in digest.as_ref() {
            write!(text, "{byte:02x}").ok();
        }
        text
    }
}

/// Length and digest of a file.
pub fn sha256_file(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::default();
    let mut piece = vec![0; PIECE_BYTES];
    let mut n_bytes = 0;
    loop {
        let n_read = match file.read(&mut piece) {
            Ok(0) => return Ok((n_bytes, digest.finish())),
            Ok(n_read) => n_read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(piece.get(..n_read).unwrap_or_default());
        n_bytes += n_read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::durable::replace_file;

    #[test]
    fn matches_the_published_values() {
        // FIPS 180-4: the empty message and "abc".
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Sha256::default().finish(), empty);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let mut digest = Sha256::default();
        digest.update(b"a");
        digest.update(b"bc");
        assert_eq!(digest.finish(), abc);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        replace_file(&path, b"abc").unwrap();
        assert_eq!(sha256_file(&path).unwrap(), (3, abc.to_owned()));
    }
}
