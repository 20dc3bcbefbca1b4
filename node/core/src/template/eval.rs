//! Rendering: from a template and a track to the components of a path.

use crate::names::{self, NameProfile, sanitize_value};
use crate::tags::{AudioProperties, Tags};

use super::field::Field;
use super::{Function, Node, TrackFacts};

/// See [`super::Template::render`].
pub(super) fn render(nodes: &[Node], track: &TrackFacts<'_>, profile: NameProfile) -> Vec<String> {
    let (tags, audio) = (Tags::default(), AudioProperties::default());
    let mut track = *track;
    if track.unreadable {
        (track.tags, track.audio) = (&tags, &audio);
    }
    let mut path = Path {
        track: &track,
        profile,
        directories: Vec::new(),
        current: String::new(),
    };
    path.print(nodes);
    path.finish()
}

/// Adds every field that `nodes` can print.
pub(super) fn collect_fields(nodes: &[Node], fields: &mut Vec<Field>) {
    for node in nodes {
        match node {
            Node::Text(_) | Node::Slash => {}
            Node::Fields(alternatives) => fields.extend(alternatives),
            Node::Call(_, arguments) => {
                for argument in arguments {
                    collect_fields(argument, fields);
                }
            }
        }
    }
}

/// A path being printed.
struct Path<'a> {
    track: &'a TrackFacts<'a>,
    profile: NameProfile,
    directories: Vec<String>,
    /// The text of the component after `directories`.
    current: String,
}

impl Path<'_> {
    fn print(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Text(text) => self.current.push_str(text),
                Node::Slash => self.end_directory(),
                Node::Fields(alternatives) => {
                    let text = self.first_value(alternatives);
                    self.current
                        .push_str(&text.unwrap_or_else(|| self.first_default(alternatives)));
                }
                Node::Call(Function::Opt, arguments) => {
                    for argument in arguments {
                        if self.has_values(argument) {
                            self.print(argument);
                        }
                    }
                }
            }
        }
    }

    fn first_value(&self, alternatives: &[Field]) -> Option<String> {
        let mut values = alternatives
            .iter()
            .map(|field| field.value(self.track, self.profile));
        values.find(|value| !value.is_empty())
    }

    fn first_default(&self, alternatives: &[Field]) -> String {
        let mut defaults = alternatives
            .iter()
            .map(|field| field.default(self.track, self.profile));
        defaults
            .find(|default| !default.is_empty())
            .unwrap_or_default()
    }

    /// True if every field in `nodes` has a value; a nested call judges its own.
    fn has_values(&self, nodes: &[Node]) -> bool {
        nodes.iter().all(|node| match node {
            Node::Text(_) | Node::Slash | Node::Call(..) => true,
            Node::Fields(alternatives) => self.first_value(alternatives).is_some(),
        })
    }

    fn end_directory(&mut self) {
        let text = std::mem::take(&mut self.current);
        if !is_blank(&text, self.profile) {
            let name = names::component(&text, None, self.profile);
            self.directories.push(name);
        }
    }

    fn finish(self) -> Vec<String> {
        let extension = self.track.extension;
        let mut text = self.current;
        if self.track.unreadable || is_blank(&text, self.profile) {
            text = match extension {
                "" => self.track.stem.to_owned(),
                _ => format!("{}.{extension}", self.track.stem),
            };
        }
        let mut path = self.directories;
        path.push(names::component(&text, Some(extension), self.profile));
        path
    }
}

/// True if nothing of `text` would be seen.
fn is_blank(text: &str, profile: NameProfile) -> bool {
    sanitize_value(text, profile).is_empty()
}
