//! An HTML page put together part by part; everything is inside it, nothing is fetched.

use super::svg::escape;
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:54rem;margin:2rem \
auto;padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}svg{max-width:100%;height:auto;\
display:block;margin:1rem 0}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.15rem .8rem .15rem 0;\
text-align:right;font-variant-numeric:tabular-nums}td:first-child,th:first-child{text-align:left}th{font-weight:600;\
border-bottom:1px solid #bbb}pre{background:#f5f5f5;padding:1rem;overflow:auto}details{margin:1rem 0}\
summary{cursor:pointer}.scroll{overflow-x:auto}";

/// A page under construction.
#[derive(Debug, Clone)]
pub struct Page {
    html: String,
}

impl Page {
    /// A page with a title.
    pub fn new(title: &str) -> Self {
        let title = escape(title);
        Self {
            html: format!(
                "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
                 content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
                 <h1>{title}</h1>\n"
            ),
        }
    }

    fn push(&mut self, part: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.html.write_fmt(part);
    }

    /// Adds a heading.
    pub fn heading(&mut self, text: &str) {
        self.push(format_args!("<h2>{}</h2>\n", escape(text)));
    }

    /// Adds a paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.push(format_args!("<p>{}</p>\n", escape(text)));
    }

    /// Adds text as it is written.
    pub fn preformatted(&mut self, text: &str) {
        self.push(format_args!("<pre>{}</pre>\n", escape(text)));
    }

    /// Adds a picture, SVG as [`super::svg`] draws it.
    pub fn picture(&mut self, svg: &str) {
        self.push(format_args!("{svg}\n"));
    }

    /// Adds a table; the first column is aligned left, the others right. A header of empty texts is left out.
    pub fn table(&mut self, header: &[&str], rows: &[Vec<String>]) {
        let cells = |tag: &str, texts: &mut dyn Iterator<Item = &str>| {
            texts.fold(String::new(), |mut row, text| {
                let _ = write!(row, "<{tag}>{}</{tag}>", escape(text));
                row
            })
        };
        self.push(format_args!("<div class=\"scroll\"><table>\n"));
        if header.iter().any(|text| !text.is_empty()) {
            let row = cells("th", &mut header.iter().copied());
            self.push(format_args!("<tr>{row}</tr>\n"));
        }
        for row in rows {
            let row = cells("td", &mut row.iter().map(String::as_str));
            self.push(format_args!("<tr>{row}</tr>\n"));
        }
        self.push(format_args!("</table></div>\n"));
    }

    /// Adds parts that are folded away under a title.
    pub fn details(&mut self, title: &str, parts: impl FnOnce(&mut Self)) {
        self.push(format_args!(
            "<details><summary>{}</summary>\n",
            escape(title)
        ));
        parts(self);
        self.push(format_args!("</details>\n"));
    }

    /// The whole page.
    pub fn finish(mut self) -> String {
        self.html.push_str("</body>\n</html>\n");
        self.html
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_parts_in_order() {
        let mut page = Page::new("a<b");
        page.table(&["", ""], &[vec!["x".to_owned(), "1 & 2".to_owned()]]);
        page.details("more", |page| page.preformatted("<script>"));
        page.table(&["name", "value"], &[]);
        let html = page.finish();
        assert!(html.contains("<h1>a&lt;b</h1>"));
        assert!(html.contains("<tr><td>x</td><td>1 &amp; 2</td></tr>"));
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"));
        assert_eq!(
            html.matches("<th>").count(),
            2,
            "an empty header is left out"
        );
        let order = ["<h1>", "<table>", "<details>", "</details>", "</html>"];
        let places: Vec<usize> = order.iter().map(|part| html.find(part).unwrap()).collect();
        assert!(places.is_sorted());
    }
}
