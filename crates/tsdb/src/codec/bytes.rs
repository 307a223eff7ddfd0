//! Variable-length integers, and a cursor over bytes that may be anything.

use super::Malformed;

/// Appends 7 bits a byte, lowest first; the high bit says that more follow.
#[inline]
pub(crate) fn put_u64(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number: zigzag, then as [`put_u64`].
#[inline]
pub(crate) fn put_i64(out: &mut Vec<u8>, number: i64) {
    put_u64(out, zigzag(number));
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[inline]
pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

#[inline]
fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Reads what the `put_*` functions wrote.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(ENDS)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        // Most numbers are small.
        if let Some((first, rest)) = self.rest.split_first()
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_u64()
    }

    fn long_u64(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if at == 9 && bits > 1 {
                break;
            }
            number |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(if self.rest.len() < 10 { ENDS } else { Malformed("a number is too long") })
    }

    #[inline]
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(unzigzag(self.u64()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.u64()?).map_err(|_| Malformed("a number is too large"))
    }

    /// A number of at most `max`.
    pub fn at_most(&mut self, max: usize) -> Result<usize, Malformed> {
        let number = self.u64()?;
        if number > max as u64 {
            return Err(Malformed("a number is too large"));
        }
        Ok(number as usize)
    }

    /// How many things follow, each of at least one byte: so never more than there are bytes.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        self.at_most(self.rest.len())
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(ENDS)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.count()?;
        self.take(len)
    }

    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text is not UTF-8"))
    }

    pub fn bits(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }
}

const ENDS: Malformed = Malformed("the bytes end too early");
