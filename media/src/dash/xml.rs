//! Elements and durations.
use std::{fmt::Display, time::Duration};

use quick_xml::{
    Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};

/// Writes elements; writing into memory does not fail.
pub(super) struct Xml(Writer<Vec<u8>>);

/// Names and values, in order.
pub(super) type Attributes<'a> = &'a [(&'a str, &'a dyn Display)];

impl Xml {
    pub(super) fn new() -> Self {
        Self(Writer::new(Vec::with_capacity(8 << 10)))
    }

    /// What was written: text and escaped text.
    pub(super) fn done(self) -> String {
        String::from_utf8(self.0.into_inner()).unwrap_or_default()
    }

    fn start<'a>(name: &'a str, attributes: Attributes<'_>) -> BytesStart<'a> {
        let mut start = BytesStart::new(name);
        for (key, value) in attributes {
            start.push_attribute((*key, value.to_string().as_str()));
        }
        start
    }

    fn event(&mut self, event: Event<'_>) {
        let _ = self.0.write_event(event);
    }

    pub(super) fn empty(&mut self, name: &str, attributes: Attributes<'_>) {
        self.event(Event::Empty(Self::start(name, attributes)));
    }

    pub(super) fn text(&mut self, name: &str, attributes: Attributes<'_>, text: &str) {
        self.within(name, attributes, |xml| {
            xml.event(Event::Text(BytesText::new(text)));
        });
    }

    pub(super) fn within(
        &mut self,
        name: &str,
        attributes: Attributes<'_>,
        inside: impl FnOnce(&mut Self),
    ) {
        self.event(Event::Start(Self::start(name, attributes)));
        inside(self);
        self.event(Event::End(BytesEnd::new(name)));
    }
}

/// Microseconds as an xs:duration.
pub(super) struct Span(pub(super) i64);

impl Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.max(0);
        write!(f, "PT{}.{:06}S", micros / 1_000_000, micros % 1_000_000)
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
    }
}
