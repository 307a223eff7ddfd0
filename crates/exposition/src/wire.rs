//! Protobuf's fields, borrowed: nothing is built from a message that its
//! reader does not ask for, so that a small message cannot become a large one.

use prost::encoding::{WireType, decode_key, decode_varint};

/// The value of one field.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    /// A message, a text, or packed numbers.
    Bytes(&'a [u8]),
    Other,
}

/// A message is cut, or a field's bytes are not of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// The fields of a message, in the order of its bytes.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field: its number and value.
    ///
    /// # Errors
    ///
    /// When the message is cut or is none. What follows is not read.
    #[expect(clippy::should_implement_trait, reason = "each step may fail")]
    pub fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Broken> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = decode_key(&mut self.0).map_err(|_| Broken)?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(decode_varint(&mut self.0).map_err(|_| Broken)?),
            WireType::SixtyFourBit => {
                let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| Broken)?;
                Value::Fixed64(u64::from_le_bytes(bytes))
            }
            WireType::LengthDelimited => Value::Bytes(take_delimited(&mut self.0)?),
            WireType::ThirtyTwoBit => self.take(4).map(|_| Value::Other)?,
            // Groups were never part of these messages.
            WireType::StartGroup | WireType::EndGroup => return Err(Broken),
        };
        Ok(Some((number, value)))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Broken)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// The bytes behind a length.
pub fn take_delimited<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], Broken> {
    let length = decode_varint(from).map_err(|_| Broken)?;
    let length = usize::try_from(length).map_err(|_| Broken)?;
    let (taken, rest) = from.split_at_checked(length).ok_or(Broken)?;
    *from = rest;
    Ok(taken)
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> Result<&'a [u8], Broken> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Broken),
        }
    }

    pub fn text(self) -> Result<&'a str, Broken> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Broken)
    }

    pub fn unsigned(self) -> Result<u64, Broken> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(Broken),
        }
    }

    /// `int64`.
    pub fn signed(self) -> Result<i64, Broken> {
        self.unsigned().map(|value| value as i64)
    }

    /// `sint32` and `sint64`.
    pub fn zigzag(self) -> Result<i64, Broken> {
        self.unsigned().map(unzigzag)
    }

    /// `double`, with every NaN as the ordinary one: a target has no marker of
    /// staleness to give.
    pub fn double(self) -> Result<f64, Broken> {
        self.exact_double().map(crate::number::plain)
    }

    /// `double`, bit by bit.
    pub fn exact_double(self) -> Result<f64, Broken> {
        match self {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Broken),
        }
    }

    /// Calls `each` for every number of a repeated `sint64`, packed or not.
    pub fn each_zigzag(self, mut each: impl FnMut(i64) -> Result<(), Broken>) -> Result<(), Broken> {
        let Value::Bytes(mut packed) = self else { return each(self.zigzag()?) };
        while !packed.is_empty() {
            each(unzigzag(decode_varint(&mut packed).map_err(|_| Broken)?))?;
        }
        Ok(())
    }

    /// Calls `each` for every number of a repeated `uint32` or `uint64`,
    /// packed or not.
    pub fn each_varint(self, mut each: impl FnMut(u64) -> Result<(), Broken>) -> Result<(), Broken> {
        let Value::Bytes(mut packed) = self else { return each(self.unsigned()?) };
        while !packed.is_empty() {
            each(decode_varint(&mut packed).map_err(|_| Broken)?)?;
        }
        Ok(())
    }

    /// Calls `each` for the bits of every number of a repeated `fixed64` or
    /// `double`, packed or not.
    pub fn each_fixed(self, mut each: impl FnMut(u64)) -> Result<(), Broken> {
        let Value::Bytes(packed) = self else {
            return self.exact_double().map(|number| each(number.to_bits()));
        };
        let (numbers, rest) = packed.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Broken);
        }
        numbers.iter().for_each(|bytes| each(u64::from_le_bytes(*bytes)));
        Ok(())
    }

    /// Calls `each` for every number of a repeated `double`, packed or not.
    pub fn each_double(self, mut each: impl FnMut(f64) -> Result<(), Broken>) -> Result<(), Broken> {
        let Value::Bytes(packed) = self else { return each(self.double()?) };
        let (numbers, rest) = packed.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Broken);
        }
        numbers.iter().try_for_each(|bytes| each(Value::Fixed64(u64::from_le_bytes(*bytes)).double()?))
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
