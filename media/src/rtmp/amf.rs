//! AMF0 (Adobe, "Action Message Format: AMF 0", 2007): the values of RTMP's commands and data messages.
use super::ProtocolError;

/// How deep objects and arrays may nest. Real ones have two levels.
const MAX_DEPTH: usize = 8;
/// How many values one message may have in all. The largest real `onMetaData` has some forty.
const MAX_VALUES: usize = 1024;

/// One AMF0 value. Objects, typed objects and ECMA arrays are all [`Value::Object`]; dates are numbers; XML is text.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An IEEE double.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A text; bytes that are not UTF-8 are replaced.
    String(String),
    /// Names and values in the order of the wire.
    Object(Vec<(String, Value)>),
    /// A strict array.
    Array(Vec<Value>),
    /// Null.
    Null,
    /// Undefined, unsupported, or a reference.
    Undefined,
}

impl Value {
    /// A text value.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::String(text.to_owned())
    }

    /// The text, of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// The number, of a number.
    #[must_use]
    pub const fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(n) => Some(*n),
            _ => None,
        }
    }

    /// The property with this name, of an object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(entries) => entries.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], ProtocolError> {
        let (head, tail) = self
            .bytes
            .split_at_checked(n)
            .ok_or(ProtocolError::Amf("a value is cut short"))?;
        self.bytes = tail;
        Ok(head)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        self.take(N)?
            .try_into()
            .map_err(|_| ProtocolError::Amf("a value is cut short"))
    }

    fn text(&mut self, len: usize) -> Result<String, ProtocolError> {
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    fn short_text(&mut self) -> Result<String, ProtocolError> {
        let len = u16::from_be_bytes(self.number()?);
        self.text(usize::from(len))
    }

    fn long_text(&mut self) -> Result<String, ProtocolError> {
        let len = u32::from_be_bytes(self.number()?);
        self.text(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<(String, Value)>, ProtocolError> {
        let mut entries = Vec::new();
        loop {
            // Some encoders leave out the end marker of an ECMA array that ends its message.
            if self.bytes.is_empty() {
                return Ok(entries);
            }
            let name = self.short_text()?;
            if name.is_empty() && self.bytes.first() == Some(&9) {
                self.take(1)?;
                return Ok(entries);
            }
            entries.push((name, self.value(depth + 1)?));
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, ProtocolError> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(ProtocolError::Amf("too many values or too deep"));
        }
        let [marker] = self.number()?;
        Ok(match marker {
            0 => Value::Number(f64::from_be_bytes(self.number()?)),
            1 => Value::Boolean(self.number::<1>()? != [0]),
            2 => Value::String(self.short_text()?),
            3 => Value::Object(self.entries(depth)?),
            5 => Value::Null,
            6 | 13 => Value::Undefined,
            7 => {
                self.take(2)?;
                Value::Undefined
            }
            8 => {
                self.take(4)?;
                Value::Object(self.entries(depth)?)
            }
            10 => {
                let count = u32::from_be_bytes(self.number()?);
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(self.value(depth + 1)?);
                }
                Value::Array(items)
            }
            11 => {
                let millis = f64::from_be_bytes(self.number()?);
                self.take(2)?;
                Value::Number(millis)
            }
            12 | 15 => Value::String(self.long_text()?),
            16 => {
                self.short_text()?;
                Value::Object(self.entries(depth)?)
            }
            _ => return Err(ProtocolError::Amf("a value of an unknown type")),
        })
    }
}

/// All values of a message.
///
/// # Errors
/// [`ProtocolError::Amf`] when one is cut short, of an unknown type, nested deeper than 8, or beyond the 1024th.
pub fn decode(bytes: &[u8]) -> Result<Vec<Value>, ProtocolError> {
    let mut reader = Reader { bytes, values: 0 };
    let mut values = Vec::new();
    while !reader.bytes.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

/// The values of a message up to the first that cannot be read: what follows a command's known arguments may be
/// anything.
#[must_use]
pub fn decode_leading(bytes: &[u8]) -> Vec<Value> {
    let mut reader = Reader { bytes, values: 0 };
    let mut values = Vec::new();
    while !reader.bytes.is_empty() {
        let Ok(value) = reader.value(0) else { break };
        values.push(value);
    }
    values
}

fn put_short(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend(u16::try_from(end).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(&text.as_bytes()[..end]);
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Number(n) => {
            out.push(0);
            out.extend(n.to_be_bytes());
        }
        Value::Boolean(b) => out.extend([1, u8::from(*b)]),
        Value::String(s) if s.len() > usize::from(u16::MAX) => {
            out.push(12);
            out.extend(u32::try_from(s.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend(s.as_bytes());
        }
        Value::String(s) => {
            out.push(2);
            put_short(out, s);
        }
        Value::Object(entries) => {
            out.push(3);
            for (name, value) in entries {
                put_short(out, name);
                put(out, value);
            }
            out.extend([0, 0, 9]);
        }
        Value::Array(items) => {
            out.push(10);
            out.extend(u32::try_from(items.len()).unwrap_or(u32::MAX).to_be_bytes());
            for item in items {
                put(out, item);
            }
        }
        Value::Null => out.push(5),
        Value::Undefined => out.push(6),
    }
}

/// The bytes of these values.
#[must_use]
pub fn encode(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        put(&mut out, value);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(|n| Value::Number(f64::from(n))),
            any::<bool>().prop_map(Value::Boolean),
            "[a-z]{0,12}".prop_map(Value::String),
            Just(Value::Null),
            Just(Value::Undefined),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(("[a-z]{1,6}", inner.clone()), 0..6).prop_map(Value::Object),
                prop::collection::vec(inner, 0..6).prop_map(Value::Array),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_survive_the_wire(values in prop::collection::vec(value(), 0..5)) {
            prop_assert_eq!(decode(&encode(&values)).unwrap(), values);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let whole = decode(&bytes);
            let leading = decode_leading(&bytes);
            if let Ok(whole) = whole {
                prop_assert_eq!(format!("{whole:?}"), format!("{leading:?}"));
            }
        }
    }

    #[test]
    fn nesting_and_number_of_values_are_limited() {
        let deep = [10, 0, 0, 0, 1].repeat(5000);
        assert!(decode(&deep).is_err());
        let mut many = vec![10, 0xff, 0xff, 0xff, 0xff];
        many.extend([5; 5000]);
        assert_eq!(
            decode(&many),
            Err(ProtocolError::Amf("too many values or too deep"))
        );
    }

    #[test]
    fn an_ecma_array_without_end_marker_is_read() {
        let bytes = [8, 0, 0, 0, 1, 0, 1, b'a', 1, 1];
        let value = &decode(&bytes).unwrap()[0];
        assert_eq!(value.get("a"), Some(&Value::Boolean(true)));
    }
}
