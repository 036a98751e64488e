//! JSON that osvm writes into a client's file, in the file's own dress.

/// What is written, its keys in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    Text(String),
    List(Vec<String>),
    Object(Vec<(String, Json)>),
    /// As it stood.
    Raw(String),
}

/// How a file breaks and indents its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dress {
    pub(super) newline: &'static str,
    pub(super) unit: String,
}

impl Json {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// On lines that begin with `indent`, or on one line.
    pub(super) fn render(&self, dress: &Dress, indent: Option<&str>) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::List(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
                format!("[{}]", texts.join(", "))
            }
            Self::Raw(text) => text.clone(),
            Self::Object(fields) => object(fields, dress, indent),
        }
    }
}

fn object(fields: &[(String, Json)], dress: &Dress, indent: Option<&str>) -> String {
    let inner = indent.map(|indent| indent.to_owned() + &dress.unit);
    let field = |(key, value): &(String, Json)| {
        format!("{}: {}", quoted(key), value.render(dress, inner.as_deref()))
    };
    let fields: Vec<_> = fields.iter().map(field).collect();
    match (indent, &inner) {
        (Some(indent), Some(inner)) => {
            let newline = dress.newline;
            let lines = fields.join(&format!(",{newline}{inner}"));
            format!("{{{newline}{inner}{lines}{newline}{indent}}}")
        }
        _ => format!("{{ {} }}", fields.join(", ")),
    }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
