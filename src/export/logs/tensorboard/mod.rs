//! Event files for TensorBoard: the measurements as scalars, the settings for the HParams plugin, and texts.

mod proto;
mod record;

use super::content::{RunContent, Total, series_name};
use super::folder::WriteError;
use crate::store::{RunStatus, Store};
use crate::text::{escape, fenced};
use prost::Message;
use proto::{
    Content, Dim, Event, FAILURE, FLOAT, HParam, HParamKind, HParamsPluginData, PluginData,
    RUNNING, SCALAR, STRING, SUCCESS, Session, SessionEndInfo, SessionStartInfo, Summary,
    SummaryMetadata, SummaryValue, TENSOR, TensorProto, TensorShapeProto,
};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Write};

/// The largest integer up to which all are floating-point numbers.
const EXACT: u64 = 1 << 53;

/// The path of a run's event file: `EXPERIMENT/METHOD-seedN-runID/events.out.tfevents.START.repro`.
pub fn file_name(content: &RunContent<'_>) -> String {
    let (experiment, run) = (folder_name(&content.run.experiment), folder_name(&content.name()));
    let start = content.timeline.whole.0.max(0.0) as u64;
    format!("{experiment}/{run}/events.out.tfevents.{start:010}.repro")
}

/// Manifests allow only letters, digits, `_`, `-` and `.` in names; anything else, and a dot at the beginning, is
/// written as `=` and its bytes in hex, so that two names never share a folder.
fn folder_name(name: &str) -> String {
    let mut shown = String::new();
    for (i, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || byte == b'.' && i > 0 {
            shown.push(char::from(byte));
        } else {
            let _ = write!(shown, "={byte:02X}");
        }
    }
    shown
}

/// Writes the event file of a run.
///
/// # Errors
/// When the writer refuses, or the database cannot be read.
pub fn write(
    out: &mut dyn Write,
    store: &Store,
    content: &RunContent<'_>,
) -> Result<(), WriteError> {
    let (start, end) = content.timeline.whole;
    let version = Some("brain.Event:2".to_owned());
    write_event(out, &Event { wall_time: start, file_version: version, ..Event::default() })?;
    write_value(out, start, 0, session("_hparams_/session_start_info", start_of(content)))?;
    for (tag, markdown) in texts(content) {
        write_value(out, start, 0, text(tag, &markdown))?;
    }
    let mut described = None;
    content.measurements(store, |metric, points| {
        let tag = series_name(metric);
        for point in points {
            let is_first = described != Some(metric);
            described = Some(metric);
            let meaning = is_first.then(|| match metric.repeat() {
                0 => metric.meaning().to_owned(),
                repeat => format!("{} In training run {}.", metric.meaning(), repeat + 1),
            });
            let at = content.timeline.at(metric, point.step);
            write_value(out, at, point.step as i64, scalar(&tag, point.value, meaning))?;
        }
        Ok::<_, WriteError>(())
    })?;
    for Total { name, value, meaning, at } in content.totals() {
        write_value(out, at, 0, scalar(&name, value, Some(meaning.to_owned())))?;
    }
    write_value(out, end, 0, session("_hparams_/session_end_info", end_of(content)))?;
    Ok(())
}

fn write_event(out: &mut dyn Write, event: &Event) -> io::Result<()> {
    record::write(out, &event.encode_to_vec())
}

fn write_value(out: &mut dyn Write, at: f64, step: i64, value: SummaryValue) -> io::Result<()> {
    let summary = Some(Summary { value: vec![value] });
    write_event(out, &Event { wall_time: at, step, summary, ..Event::default() })
}

fn metadata(plugin: &str, content: Vec<u8>, meaning: String, class: i32) -> SummaryMetadata {
    SummaryMetadata {
        plugin_data: Some(PluginData { plugin_name: plugin.to_owned(), content }),
        summary_description: meaning,
        data_class: class,
    }
}

/// TensorBoard takes the description of a scalar from its first event.
fn scalar(tag: &str, value: f64, meaning: Option<String>) -> SummaryValue {
    SummaryValue {
        tag: tag.to_owned(),
        metadata: meaning.map(|meaning| metadata("scalars", Vec::new(), meaning, SCALAR)),
        value: Some(Content::SimpleValue(value as f32)),
    }
}

/// TensorBoard shows a tensor with dimensions as a table, one without as it is.
fn text(tag: &str, markdown: &str) -> SummaryValue {
    SummaryValue {
        tag: tag.to_owned(),
        metadata: Some(metadata("text", Vec::new(), String::new(), TENSOR)),
        value: Some(Content::Tensor(TensorProto {
            dtype: STRING,
            tensor_shape: Some(TensorShapeProto { dim: Vec::new() }),
            string_val: vec![markdown.as_bytes().to_vec()],
        })),
    }
}

/// A value of the HParams plugin, which stores its data beside an empty tensor.
fn session(tag: &str, session: Session) -> SummaryValue {
    let content = HParamsPluginData { data: Some(session) }.encode_to_vec();
    SummaryValue {
        tag: tag.to_owned(),
        metadata: Some(metadata("hparams", content, String::new(), TENSOR)),
        value: Some(Content::Tensor(TensorProto {
            dtype: FLOAT,
            tensor_shape: Some(TensorShapeProto { dim: vec![Dim { size: 0 }] }),
            string_val: Vec::new(),
        })),
    }
}

fn start_of(content: &RunContent<'_>) -> Session {
    let hparams = content.hyperparameters().into_iter();
    let hparams = hparams.map(|(name, value)| (name, HParam { kind: Some(hparam(&value)) }));
    let start_time_secs = content.timeline.whole.0;
    Session::Start(SessionStartInfo { hparams: hparams.collect(), start_time_secs })
}

fn hparam(value: &Value) -> HParamKind {
    match value {
        Value::Bool(flag) => HParamKind::Flag(*flag),
        Value::String(text) => HParamKind::Text(text.clone()),
        Value::Number(number) if number.as_u64().is_none_or(|n| n <= EXACT) => {
            number.as_f64().map_or_else(|| HParamKind::Text(number.to_string()), HParamKind::Number)
        }
        other => HParamKind::Text(other.to_string()),
    }
}

fn end_of(content: &RunContent<'_>) -> Session {
    let status = match content.run.status {
        RunStatus::Finished => SUCCESS,
        RunStatus::Failed | RunStatus::Interrupted => FAILURE,
        RunStatus::Running => RUNNING,
    };
    Session::End(SessionEndInfo { status, end_time_secs: content.ended_at().unwrap_or_default() })
}

/// The Markdown of the texts by their tags.
fn texts(content: &RunContent<'_>) -> Vec<(&'static str, String)> {
    let mut texts =
        vec![("run", table(&content.facts())), ("environment", table(&content.environment()))];
    for (file, text) in content.texts() {
        let (tag, language) = file.split_once('.').unwrap_or((file, ""));
        texts.push((tag, fenced(&text, language)));
    }
    texts
}

fn table(rows: &[(&str, String)]) -> String {
    let mut markdown = "| key | value |\n|---|---|\n".to_owned();
    for (key, value) in rows {
        let _ = writeln!(markdown, "| {key} | {} |", escape(value));
    }
    markdown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_folders_that_stay_inside() {
        for (name, folder) in [
            ("fbnetv2_f", "fbnetv2_f"),
            ("a.b-c", "a.b-c"),
            ("..", "=2E."),
            ("../up", "=2E.=2Fup"),
            ("é", "=C3=A9"),
        ] {
            assert_eq!(folder_name(name), folder);
        }
    }

    #[test]
    fn settings_keep_their_types_and_digits() {
        let cases = [
            ("3", HParamKind::Number(3.0)),
            ("-0.5", HParamKind::Number(-0.5)),
            ("9007199254740993", HParamKind::Text("9007199254740993".to_owned())),
            ("true", HParamKind::Flag(true)),
            ("\"cosine\"", HParamKind::Text("cosine".to_owned())),
            ("[1,2]", HParamKind::Text("[1,2]".to_owned())),
        ];
        for (json, expected) in cases {
            assert_eq!(hparam(&serde_json::from_str(json).unwrap()), expected, "{json}");
        }
    }

    /// Zero is written too: TensorBoard must see that there is a value.
    #[test]
    fn a_scalar_has_the_bytes_of_its_message() {
        let value = scalar("a/b", 0.0, None);
        assert_eq!(value.encode_to_vec(), b"\x0a\x03a/b\x15\0\0\0\0");
        let described = scalar("a", 1.0, Some("Ä".to_owned())).encode_to_vec();
        let metadata = b"\x4a\x11\x0a\x09\x0a\x07scalars\x1a\x02\xc3\x84\x20\x01";
        assert_eq!(described, [b"\x0a\x01a\x15\0\0\x80\x3f", &metadata[..]].concat());
    }
}
