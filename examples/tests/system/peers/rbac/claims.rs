//! Claims as the bytes of `google.protobuf.Value`, the form in which Envoy takes them out of a header.

use serde_json::Value;

pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    match value {
        Value::Null => bytes.extend([0x08, 0]),
        Value::Number(number) => {
            bytes.push(0x11);
            bytes.extend(number.as_f64().unwrap_or_default().to_le_bytes());
        }
        Value::String(text) => field(3, text.as_bytes(), &mut bytes),
        Value::Bool(flag) => bytes.extend([0x20, u8::from(*flag)]),
        Value::Object(fields) => {
            let mut inner = Vec::new();
            for (name, value) in fields {
                let mut entry = Vec::new();
                field(1, name.as_bytes(), &mut entry);
                field(2, &encode(value), &mut entry);
                field(1, &entry, &mut inner);
            }
            field(5, &inner, &mut bytes);
        }
        Value::Array(values) => {
            let mut inner = Vec::new();
            values.iter().for_each(|value| field(1, &encode(value), &mut inner));
            field(6, &inner, &mut bytes);
        }
    }
    bytes
}

/// A field whose bytes are preceded by how many they are.
fn field(number: u8, bytes: &[u8], into: &mut Vec<u8>) {
    into.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        into.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    into.push(u8::try_from(length).unwrap());
    into.extend(bytes);
}
