//! The certificates that meshes issue, read without a general parser: each handshake reads two.
//!
//! Only what is in order by the strictest reading is taken, and what is not is for the general parser to judge: this reader
//! accepts nothing that the other refuses, and refuses nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Leaf;
use crate::SpiffeId;

/// Reads a leaf that obeys all rules; `None` if it does not, or has anything that mesh authorities do not issue.
pub(super) fn read(der: &[u8]) -> Option<Leaf<'_>> {
    let mut outer = Reader(der);
    let mut certificate = outer.enter(SEQUENCE)?;
    let mut tbs = certificate.enter(SEQUENCE)?;
    algorithm(certificate.enter(SEQUENCE)?)?;
    bytes(&mut certificate)?;
    certificate.end()?;
    outer.end()?;

    (tbs.enter(VERSION)?.0 == VERSION_3).then_some(())?;
    let serial = tbs.enter(INTEGER)?.0;
    (!serial.is_empty()).then_some(())?;
    algorithm(tbs.enter(SEQUENCE)?)?;
    name(tbs.enter(SEQUENCE)?)?;
    let mut validity = tbs.enter(SEQUENCE)?;
    let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
    validity.end()?;
    name(tbs.enter(SEQUENCE)?)?;
    let mut key = tbs.enter(SEQUENCE)?;
    algorithm(key.enter(SEQUENCE)?)?;
    bytes(&mut key)?;
    key.end()?;
    let mut wrapped = tbs.enter(EXTENSIONS)?;
    let extensions = Extensions::read(wrapped.enter(SEQUENCE)?)?;
    wrapped.end()?;
    tbs.end()?;

    let (for_clients, for_servers) = match extensions.extended_key_usage {
        Some(usage) => purposes(usage)?,
        None => (true, true),
    };
    let id = spiffe_id(extensions.alternative_names?)?;
    signs_only(extensions.key_usage?)?;
    // No authority, said by leaving out what is the default.
    extensions.basic_constraints.is_none_or(|value| value == EMPTY_SEQUENCE).then_some(())?;
    Some(Leaf { id, serial, not_before, not_after, for_clients, for_servers })
}

/// The values of the extensions that are understood, each there once at most.
#[derive(Default)]
struct Extensions<'a> {
    basic_constraints: Option<&'a [u8]>,
    key_usage: Option<&'a [u8]>,
    extended_key_usage: Option<&'a [u8]>,
    alternative_names: Option<&'a [u8]>,
    subject_key: Option<&'a [u8]>,
    authority_key: Option<&'a [u8]>,
}

impl<'a> Extensions<'a> {
    fn read(mut list: Reader<'a>) -> Option<Self> {
        let mut all = Self::default();
        while !list.0.is_empty() {
            let mut extension = list.enter(SEQUENCE)?;
            let oid = extension.enter(OID)?.0;
            if extension.0.starts_with(&[BOOLEAN]) {
                (extension.enter(BOOLEAN)?.0 == TRUE).then_some(())?;
            }
            let value = extension.enter(OCTET_STRING)?.0;
            extension.end()?;
            let &[0x55, 0x1d, number] = oid else { return None };
            let place = match number {
                14 => &mut all.subject_key,
                15 => &mut all.key_usage,
                17 => &mut all.alternative_names,
                19 => &mut all.basic_constraints,
                35 => &mut all.authority_key,
                37 => &mut all.extended_key_usage,
                _ => return None,
            };
            place.replace(value).is_none().then_some(())?;
        }
        if let Some(value) = all.subject_key {
            only(value, OCTET_STRING)?;
        }
        if let Some(value) = all.authority_key {
            only(only(value, SEQUENCE)?, KEY_IDENTIFIER)?;
        }
        Some(all)
    }
}

/// Whether a key is for clients, and for servers.
fn purposes(value: &[u8]) -> Option<(bool, bool)> {
    let mut list = Reader(only(value, SEQUENCE)?);
    let (mut clients, mut servers) = (false, false);
    while !list.0.is_empty() {
        match list.enter(OID)?.0 {
            CLIENT_AUTH => clients = true,
            SERVER_AUTH => servers = true,
            _ => return None,
        }
    }
    (clients || servers).then_some((clients, servers))
}

/// Whether a key signs, but neither certificates nor revocation lists.
fn signs_only(value: &[u8]) -> Option<()> {
    let &[unused @ 0..=7, bits] = only(value, BIT_STRING)? else { return None };
    let is_padded_with_zeros = bits.trailing_zeros() >= u32::from(unused);
    (is_padded_with_zeros && bits & DIGITAL_SIGNATURE != 0 && bits & SIGNS_OTHERS == 0).then_some(())
}

/// The only URI, among names of hosts.
fn spiffe_id(value: &[u8]) -> Option<SpiffeId> {
    let mut names = Reader(only(value, SEQUENCE)?);
    let mut uri = None;
    while let Some((&tag, _)) = names.0.split_first() {
        let name = names.enter(tag)?.0;
        name.is_ascii().then_some(())?;
        match tag {
            DNS_NAME => {}
            URI => uri.replace(name).is_none().then_some(())?,
            _ => return None,
        }
    }
    let id: SpiffeId = str::from_utf8(uri?).ok()?.parse().ok()?;
    (!id.path().is_empty()).then_some(id)
}

fn algorithm(mut parts: Reader<'_>) -> Option<()> {
    oid(&mut parts)?;
    if let Some((&tag, _)) = parts.0.split_first() {
        matches!(tag, OID | NULL).then_some(())?;
        parts.enter(tag)?;
    }
    parts.end()
}

/// Bits that are whole bytes.
fn bytes(parts: &mut Reader<'_>) -> Option<()> {
    parts.enter(BIT_STRING)?.0.starts_with(&[0]).then_some(())
}

/// An identifier whose last part ends.
fn oid(parts: &mut Reader<'_>) -> Option<()> {
    parts.enter(OID)?.0.last().is_some_and(|last| *last < 0x80).then_some(())
}

fn name(mut parts: Reader<'_>) -> Option<()> {
    while !parts.0.is_empty() {
        let mut set = parts.enter(SET)?;
        let mut attribute = set.enter(SEQUENCE)?;
        oid(&mut attribute)?;
        let &tag = attribute.0.first()?;
        matches!(tag, UTF8_STRING | PRINTABLE_STRING).then_some(())?;
        str::from_utf8(attribute.enter(tag)?.0).ok()?;
        attribute.end()?;
        set.end()?;
    }
    Some(())
}

/// A moment as RFC 5280 §4.1.2.5 wants it written, from 1970 on.
fn time(validity: &mut Reader<'_>) -> Option<SystemTime> {
    let &tag = validity.0.first()?;
    let text = validity.enter(tag)?.0.strip_suffix(b"Z")?;
    text.iter().all(u8::is_ascii_digit).then_some(())?;
    let (pairs, _) = text.as_chunks::<2>();
    let number = |&[tens, ones]: &[u8; 2]| u64::from(tens - b'0') * 10 + u64::from(ones - b'0');
    let (year, rest) = match (tag, text.len(), pairs) {
        (UTC_TIME, 12, [year, rest @ ..]) => {
            let year = number(year);
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14, [century, year, rest @ ..]) => (number(century) * 100 + number(year), rest),
        _ => return None,
    };
    let [month, day, hour, minute, second] = <[_; 5]>::try_from(rest).ok()?.map(|pair| number(&pair));
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of = |month| match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 31,
    };
    let exists = (1..=12).contains(&month) && (1..=days_of(month)).contains(&day);
    (exists && hour < 24 && minute < 60 && second < 60).then_some(())?;
    let before = year.checked_sub(1970)?;
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let days = before * 365 + leap_days(year - 1) - leap_days(1969)
        + (1..month).map(days_of).sum::<u64>()
        + (day - 1);
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The contents of a value that has this tag, and nothing after it.
fn only(value: &[u8], tag: u8) -> Option<&[u8]> {
    let mut reader = Reader(value);
    let contents = reader.enter(tag)?.0;
    reader.end().map(|()| contents)
}

/// What is left to read of DER (X.690 §10).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Takes the next value, which must have this tag.
    fn enter(&mut self, tag: u8) -> Option<Self> {
        let (&found, rest) = self.0.split_first()?;
        (found == tag).then_some(())?;
        // A length is written in as few bytes as possible.
        let (length, rest) = match *rest {
            [short @ 0..=0x7f, ref rest @ ..] => (usize::from(short), rest),
            [0x81, length @ 0x80..=0xff, ref rest @ ..] => (usize::from(length), rest),
            [0x82, high @ 1..=0xff, low, ref rest @ ..] => (usize::from(high) << 8 | usize::from(low), rest),
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Self(contents))
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, `[3]` of a certificate (RFC 5280 §4.1).
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `[0]` of an authority's key (RFC 5280 §4.2.1.1).
const KEY_IDENTIFIER: u8 = 0x80;
/// `[2]`, `[6]` of a general name (RFC 5280 §4.2.1.6).
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;

const VERSION_3: &[u8] = &[INTEGER, 1, 2];
const TRUE: &[u8] = &[0xff];
const EMPTY_SEQUENCE: &[u8] = &[SEQUENCE, 0];
/// 1.3.6.1.5.5.7.3.1 and .2 (RFC 5280 §4.2.1.12).
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
/// The first bit, and keyCertSign with cRLSign (RFC 5280 §4.2.1.3).
const DIGITAL_SIGNATURE: u8 = 0x80;
const SIGNS_OTHERS: u8 = 0x06;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::testing::Authority;

    fn leaves() -> Vec<Vec<u8>> {
        let authority = Authority::with_name("the root", "example.org");
        let id = "spiffe://example.org/ns/shop/sa/cart";
        let leaves = [
            authority.leaf(id),
            authority.leaf(id).dns_name("cart.example.org"),
            authority.leaf(id).client_only(),
            authority.leaf(id).server_only(),
        ];
        leaves.into_iter().map(|leaf| leaf.issue().chain()[0].to_vec()).collect()
    }

    #[test]
    fn what_mesh_authorities_issue_is_read_quickly() {
        for leaf in leaves() {
            assert!(Leaf::is_read_quickly(&leaf), "{leaf:02x?}");
        }
    }

    #[test]
    fn no_byte_makes_it_take_what_the_general_reader_does_not() {
        let mut taken = 0;
        for leaf in leaves() {
            for place in 0..leaf.len() {
                for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                    let mut changed = leaf.clone();
                    changed[place] ^= change;
                    taken += usize::from(Leaf::is_read_quickly(&changed));
                }
            }
        }
        // Of serial numbers, keys, signatures and names.
        assert!(taken > 1000, "{taken}");
    }

    #[test]
    fn the_collected_certificates_are_the_same_to_both() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
        let (mut seen, mut taken) = (0, 0);
        for file in fs::read_dir(folder).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            seen += 1;
            taken += usize::from(Leaf::is_read_quickly(&bytes));
        }
        assert!(seen > 100 && taken > 10, "{taken} of {seen}");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let read = |tag: u8, text: &str| {
            let der = [&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            let seconds = time(&mut Reader(&der))?.duration_since(UNIX_EPOCH).unwrap();
            Some(seconds.as_secs())
        };
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "000229235959Z", Some(951_868_799)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400)),
            (GENERALIZED_TIME, "21000229000000Z", None),
            (GENERALIZED_TIME, "19691231235959Z", None),
            (UTC_TIME, "691231235959Z", None),
            (UTC_TIME, "001301000000Z", None),
            (UTC_TIME, "000001000000Z", None),
            (UTC_TIME, "000431000000Z", None),
            (UTC_TIME, "000100000000Z", None),
            (UTC_TIME, "000101240000Z", None),
            (UTC_TIME, "000101006000Z", None),
            (UTC_TIME, "000101000060Z", None),
            (UTC_TIME, "0001010000Z", None),
            (UTC_TIME, "000101000000+0000", None),
            (UTC_TIME, "00010100000aZ", None),
            (UTC_TIME, "20000101000000Z", None),
        ] {
            assert_eq!(read(tag, text), seconds, "{text}");
        }
    }
}
