//! Vorbis comments, and the text of Ogg's header packets.

use lofty::ogg::tag::VorbisComments;

use crate::fields::Fields;
use crate::names::field_of;

/// The longest header that pictures are looked for in.
const TEXT_BYTES_MAX: usize = 48 << 20;

/// The fields of `comments`.
pub(crate) fn read(comments: &VorbisComments) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in comments.items() {
        if let Some(field) = field_of(name) {
            fields.push(field, value);
        }
    }
    fields
}

/// The header packets of an Ogg stream without the page headers between.
pub(crate) struct OggText {
    pub(crate) bytes: Vec<u8>,
    /// Where each page's part starts in `bytes` and in the file.
    pages: Vec<(usize, u64)>,
}

impl OggText {
    /// Collects the first two packets of the stream that starts `file`, which lies at `offset`.
    pub(crate) fn parse(file: &[u8], offset: u64) -> Self {
        let mut text = Self {
            bytes: Vec::new(),
            pages: Vec::new(),
        };
        let mut at = 0;
        let mut packets = 0;
        let mut serial = None;
        while packets < 2 && text.bytes.len() < TEXT_BYTES_MAX {
            let Some(page) = Page::parse(&file[at..]) else {
                break;
            };
            let content_at = at + page.header_len;
            at = (content_at + page.content_len).min(file.len());
            // Pages of other streams may lie between.
            if *serial.get_or_insert(page.serial) == page.serial {
                text.pages
                    .push((text.bytes.len(), offset + content_at as u64));
                text.bytes.extend(&file[content_at.min(at)..at]);
                packets += page.packets_ended;
            }
        }
        text
    }

    /// Takes `bytes`, which lie at `offset` of the file, as they are.
    pub(crate) fn without_pages(bytes: &[u8], offset: u64) -> Self {
        Self {
            bytes: bytes.to_vec(),
            pages: vec![(0, offset)],
        }
    }

    /// The first byte of the text that lies at `offset` of the file or behind it.
    pub(crate) fn index_of(&self, offset: u64) -> usize {
        let page = self.pages.partition_point(|(_, at)| *at <= offset);
        let Some(&(start, at)) = page.checked_sub(1).and_then(|page| self.pages.get(page)) else {
            return 0;
        };
        let next = self.pages.get(page).map_or(self.bytes.len(), |page| page.0);
        let skip = usize::try_from(offset - at).unwrap_or(usize::MAX);
        start.saturating_add(skip).min(next)
    }

    /// Where byte `index` lies in the file.
    pub(crate) fn offset_of(&self, index: usize) -> u64 {
        let page = self.pages.partition_point(|(start, _)| *start <= index);
        let (start, offset) = self.pages[page.saturating_sub(1)];
        offset + (index - start) as u64
    }
}

/// What a page's header says (RFC 3533 §6).
pub(crate) struct Page {
    pub(crate) serial: u32,
    pub(crate) header_len: usize,
    pub(crate) content_len: usize,
    pub(crate) packets_ended: usize,
}

impl Page {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.first_chunk::<27>()?;
        if !fixed.starts_with(b"OggS\0") {
            return None;
        }
        let segments = bytes.get(27..27 + usize::from(fixed[26]))?;
        Some(Self {
            serial: u32::from_le_bytes([fixed[14], fixed[15], fixed[16], fixed[17]]),
            header_len: 27 + segments.len(),
            content_len: segments.iter().map(|&len| usize::from(len)).sum(),
            packets_ended: segments.iter().filter(|&&len| len < 255).count(),
        })
    }
}
