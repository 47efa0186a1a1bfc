//! Line charts: as SVG, which needs no script, and as data from which a script draws one to be explored.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};
use serde_json::{Value, json};

use crate::telling::short;

/// The most points of a line.
const POINTS_MAX: usize = 200;
/// The size of the picture, in its own units: on a phone they are pixels.
const SIZE: (f64, f64) = (360.0, 205.0);
/// The margins of the plot: left, top, right, bottom.
const MARGINS: (f64, f64, f64, f64) = (46.0, 10.0, 14.0, 40.0);

/// A line over seconds.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) label: String,
    /// The variable of its colour.
    pub(super) colour: &'static str,
    pub(super) values: Vec<f64>,
    pub(super) look: Look,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Dashed,
    /// The lower edge of a band, whose upper edge is the next line.
    Low,
    High,
}

/// Lines over the seconds of a run.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) id: String,
    /// What the vertical axis is, with its unit.
    pub(super) axis: &'static str,
    /// The unit of a value in the legend.
    pub(super) unit: &'static str,
    /// What it shows, for those who do not see it.
    pub(super) alternative: String,
    pub(super) lines: Vec<Line>,
    /// The seconds of the trigger.
    pub(super) shade: (u64, u64),
    /// The value at the top; the greatest of the lines without.
    pub(super) top: Option<f64>,
}

/// Seconds taken together, so that no line has more than [`POINTS_MAX`] points.
pub(super) fn bin(seconds: usize) -> usize {
    seconds.div_ceil(POINTS_MAX).max(1)
}

/// The means of so many values at a time.
pub(super) fn binned(values: &[f64], bin: usize) -> Vec<f64> {
    values.chunks(bin).map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64).collect()
}

/// A round number at or above.
fn ceiling(value: f64) -> f64 {
    let magnitude = libm::pow(10.0, libm::floor(libm::log10(value.max(1e-3))));
    let step =
        [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].into_iter().find(|step| step * magnitude >= value);
    step.unwrap_or(10.0) * magnitude
}

struct Plot {
    seconds: f64,
    top: f64,
}

impl Plot {
    fn x(&self, second: f64) -> f64 {
        let (left, _, right, _) = MARGINS;
        left + second / self.seconds.max(1.0) * (SIZE.0 - left - right)
    }

    fn y(&self, value: f64) -> f64 {
        let (_, above, _, below) = MARGINS;
        SIZE.1 - below - (value / self.top).clamp(0.0, 1.02) * (SIZE.1 - above - below)
    }

    fn points(&self, values: &[f64], bin: usize) -> String {
        let mut text = String::new();
        for (place, value) in values.iter().enumerate() {
            let second = (place * bin) as f64 + bin as f64 / 2.0;
            _ = write!(text, "{:.1},{:.1} ", self.x(second.min(self.seconds)), self.y(*value));
        }
        text
    }
}

impl Chart {
    fn seconds(&self) -> usize {
        self.lines.iter().map(|line| line.values.len()).max().unwrap_or(0)
    }

    fn greatest(&self) -> f64 {
        let bin = bin(self.seconds());
        let all = self.lines.iter().flat_map(|line| binned(&line.values, bin));
        ceiling(self.top.unwrap_or_else(|| all.fold(1.0, f64::max)))
    }

    /// As a figure: the picture, and what its lines are.
    pub(super) fn figure(&self, title: &str, caption: &str) -> Markup {
        html! {
            figure {
                h3 { (title) }
                div id=(self.id) { (self.svg(false)) }
                ul.keys {
                    @for (place, line) in self.lines.iter().enumerate().filter(|(_, line)| line.look != Look::High) {
                        @let wide = (line.look == Look::Low).then_some("wide");
                        li {
                            i class=[wide] style={ "background:var(" (line.colour) ")" } {}
                            (line.label) b data-line=(place) {}
                        }
                    }
                    li { i.wide style="background:var(--shade)" {} "trigger" }
                    li { b data-when {} }
                }
                figcaption { (caption) }
            }
        }
    }

    /// As SVG; alone it brings its own colours.
    pub(super) fn svg(&self, alone: bool) -> Markup {
        let seconds = self.seconds();
        let bin = bin(seconds);
        let plot = Plot { seconds: seconds as f64, top: self.greatest() };
        let (left, above, right, below) = MARGINS;
        let (width, height) = SIZE;
        let colour =
            |name: &'static str| if alone { alone_colour(name).to_owned() } else { format!("var({name})") };
        let values: Vec<Vec<f64>> = self.lines.iter().map(|line| binned(&line.values, bin)).collect();
        let band = |place: usize| {
            let high = plot.points(values.get(place + 1).map(Vec::as_slice).unwrap_or_default(), bin);
            let mut points: Vec<&str> = high.split_whitespace().collect();
            points.reverse();
            format!("{}{}", plot.points(&values[place], bin), points.join(" "))
        };
        let shade = (plot.x(self.shade.0 as f64), plot.x(self.shade.1 as f64));
        let ticks = |most: f64, count: u32| {
            let step = ceiling(most / f64::from(count));
            (0..).map(move |tick| f64::from(tick) * step).take_while(move |value| *value <= most * 1.001)
        };
        html! {
            svg xmlns=[alone.then_some("http://www.w3.org/2000/svg")] viewBox={ "0 0 " (width) " " (height) }
                role="img" aria-label=(self.alternative) font-family="system-ui,sans-serif" {
                rect.shade x=(round(shade.0)) y=(above) width=(round((shade.1 - shade.0).max(1.5)))
                    height=(height - above - below) fill=(colour("--shade")) opacity="0.16" {}
                @for value in ticks(plot.top, 4) {
                    line.axis x1=(left) x2=(width - right) y1=(round(plot.y(value))) y2=(round(plot.y(value)))
                        stroke=(colour("--line")) {}
                    text.soft x=(left - 6.0) y=(round(plot.y(value) + 3.5)) text-anchor="end" font-size="11"
                        fill=(colour("--soft")) { (short(value)) }
                }
                @for value in ticks(plot.seconds, 5) {
                    text.soft x=(round(plot.x(value))) y=(height - below + 15.0) text-anchor="middle"
                        font-size="11" fill=(colour("--soft")) { (short(value)) }
                }
                text.soft x=(round((left + width - right) / 2.0)) y=(height - 6.0) text-anchor="middle" font-size="11"
                    fill=(colour("--soft")) { "seconds since the start" }
                text.soft x="0" y="0" text-anchor="middle" font-size="11" fill=(colour("--soft"))
                    transform={ "translate(11 " (round((height - below + above) / 2.0)) ") rotate(-90)" } { (self.axis) }
                @if alone {
                    @for (place, line) in self.lines.iter().filter(|line| line.look == Look::Plain).enumerate() {
                        text x=(width - right - 4.0) y=(above + 12.0 + 14.0 * place as f64) text-anchor="end" font-size="11.5"
                            font-weight="600" fill=(colour(line.colour)) { (line.label) }
                    }
                }
                @for (place, line) in self.lines.iter().enumerate() {
                    @let stroke = colour(line.colour);
                    @match line.look {
                        Look::Low => { polygon points=(band(place)) fill=(stroke) opacity="0.22" {} },
                        Look::High => {},
                        look => {
                            @let thin = look == Look::Dashed;
                            polyline points=(plot.points(&values[place], bin)) fill="none" stroke=(stroke)
                                stroke-width=(if thin { "1" } else { "2" }) stroke-linejoin="round"
                                stroke-dasharray=[(look == Look::Dashed).then_some("4 3")] {}
                        },
                    }
                }
            }
        }
    }

    /// The data from which a script draws it.
    pub(super) fn data(&self) -> Value {
        let bin = bin(self.seconds());
        let rounded = |values: Vec<f64>| values.into_iter().map(round).collect::<Vec<f64>>();
        let points = self.seconds().div_ceil(bin);
        let seconds: Vec<f64> = (0..points).map(|place| (place * bin) as f64 + bin as f64 / 2.0).collect();
        let series = self.lines.iter().map(|line| {
            json!({
                "label": line.label,
                "colour": line.colour,
                "edge": matches!(line.look, Look::Low | Look::High),
                "band": line.look == Look::Low,
                "thin": line.look == Look::Dashed,
                "dash": line.look == Look::Dashed,
                "y": rounded(binned(&line.values, bin)),
            })
        });
        json!({
            "id": self.id,
            "axis": self.axis,
            "unit": self.unit,
            "top": self.greatest(),
            "from": self.shade.0,
            "to": self.shade.1,
            "x": seconds,
            "series": series.collect::<Vec<Value>>(),
        })
    }
}

/// Colours of a picture that stands alone, on light and on dark ground.
fn alone_colour(name: &str) -> &'static str {
    match name {
        "--shade" => "#e69f00",
        "--line" => "#8b949e55",
        "--soft" | "--grey" => "#7d8792",
        "--c2" => "#d55e00",
        _ => "#0072b2",
    }
}

/// With one decimal.
pub(super) fn round(value: f64) -> f64 {
    libm::round(value * 10.0) / 10.0
}

/// JSON inside a script element: nothing in it can end that.
pub(super) fn embedded(value: &Value) -> PreEscaped<String> {
    PreEscaped(value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}
