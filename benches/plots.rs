//! Draws reports of the benchmarks: how far each item is from its target, what a setting costs, and
//! what a message costs by backlog. Of several reports the medians count.
//!
//! `just plots target/bench/report.json` writes to `docs/plots`; `--to` chooses another folder.
#![allow(missing_docs, reason = "a program")]

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Parser;
use plotters::coord::Shift;
use plotters::prelude::*;
use serde::Deserialize;

type Problem = Box<dyn Error>;
type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const MET: RGBColor = RGBColor(0x2f, 0x6f, 0x9f);
const MISSED: RGBColor = RGBColor(0xc8, 0x5a, 0x1e);
const FAINT: RGBColor = RGBColor(0x88, 0x88, 0x88);
const FONT: (&str, u32) = ("sans-serif", 13);

/// What to draw.
#[derive(Parser)]
struct Args {
    /// Reports of the benchmarks.
    #[arg(default_value = "target/bench/report.json")]
    reports: Vec<PathBuf>,
    /// The folder of the drawings.
    #[arg(long, default_value = "docs/plots")]
    to: PathBuf,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A row of a report.
#[derive(Clone, Deserialize)]
struct Row {
    id: String,
    variant: String,
    ours: Option<f64>,
    limit: Option<f64>,
    ratio: Option<f64>,
    target: Option<String>,
}

impl Row {
    /// What is held to the target.
    fn judged(&self) -> Option<f64> {
        self.ratio.or(self.ours)
    }

    /// 1 where the target is just met, more where it is surpassed.
    fn attained(&self) -> Option<f64> {
        let (least, target) = self.target.as_deref()?.split_once(' ')?;
        let target: f64 = target.parse().ok()?;
        let judged = self.judged()?;
        match least {
            ">=" => Some(judged / target),
            _ => Some(target / judged),
        }
    }

    fn label(&self) -> String {
        format!("{}  {}", self.id, self.variant)
    }
}

fn main() -> Result<(), Problem> {
    let args = Args::parse();
    let rows = medians(&args.reports)?;
    std::fs::create_dir_all(&args.to)?;
    let of = |group: char| rows.iter().filter(move |row| row.id.starts_with(group));
    let attained = of('P')
        .chain(of('D'))
        .filter_map(|row| Some((row.label(), row.attained()?)));
    bars(
        &args.to.join("targets.svg"),
        "Reached, where 1 is the target",
        attained,
    )?;
    let costs = of('C').filter_map(|row| Some((row.label(), row.ratio?)));
    bars(
        &args.to.join("settings.svg"),
        "Speed, where 1 is the default",
        costs,
    )?;
    backlogs(&args.to.join("backlog.svg"), &rows)
}

/// The rows of all reports, each with the median of its figures.
fn medians(reports: &[PathBuf]) -> Result<Vec<Row>, Problem> {
    let mut same: Vec<Vec<Row>> = Vec::new();
    for report in reports {
        let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(report)?)?;
        for row in rows {
            let is_same = |group: &&mut Vec<Row>| {
                (&group[0].id, &group[0].variant) == (&row.id, &row.variant)
            };
            match same.iter_mut().find(is_same) {
                Some(group) => group.push(row),
                None => same.push(vec![row]),
            }
        }
    }
    Ok(same.iter().map(|group| merged(group)).collect())
}

fn merged(group: &[Row]) -> Row {
    let median = |figure: fn(&Row) -> Option<f64>| {
        let mut figures: Vec<f64> = group.iter().filter_map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied()
    };
    Row {
        ours: median(|row| row.ours),
        limit: median(|row| row.limit),
        ratio: median(|row| row.ratio),
        ..group[0].clone()
    }
}

/// One bar a figure, with a line at 1; a bar that does not fit is cut, its figure tells.
fn bars(
    path: &Path,
    title: &str,
    figures: impl Iterator<Item = (String, f64)>,
) -> Result<(), Problem> {
    const LABEL: i32 = 470;
    const UNIT: f64 = 200.0;
    const LINE: i32 = 20;
    let figures: Vec<_> = figures.collect();
    if figures.is_empty() {
        return Ok(());
    }
    let height = 50 + LINE * figures.len() as i32;
    let canvas = canvas(path, (LABEL + 2 * UNIT as i32 + 70, height))?;
    text(&canvas, title, (LABEL, 10), BLACK)?;
    for (place, (label, figure)) in figures.iter().enumerate() {
        let top = 36 + LINE * place as i32;
        let end = LABEL + (figure.clamp(0.0, 2.0) * UNIT) as i32;
        let colour = if *figure >= 1.0 { MET } else { MISSED };
        canvas.draw(&Rectangle::new(
            [(LABEL, top), (end, top + LINE - 6)],
            colour.filled(),
        ))?;
        text(&canvas, label, (8, top), BLACK)?;
        text(&canvas, &format!("{figure:.2}"), (end + 6, top), BLACK)?;
    }
    let one = LABEL + UNIT as i32;
    canvas.draw(&PathElement::new([(one, 30), (one, height - 8)], BLACK))?;
    Ok(canvas.present()?)
}

fn canvas(path: &Path, (width, height): (i32, i32)) -> Result<Canvas<'_>, Problem> {
    let canvas = SVGBackend::new(path, (width as u32, height as u32)).into_drawing_area();
    canvas.fill(&WHITE)?;
    Ok(canvas)
}

fn text(canvas: &Canvas<'_>, text: &str, at: (i32, i32), colour: RGBColor) -> Result<(), Problem> {
    Ok(canvas.draw(&Text::new(
        text.to_owned(),
        at,
        FONT.into_font().color(&colour),
    ))?)
}

/// What a message costs to claim and settle, by backlog, beside the limit.
fn backlogs(path: &Path, rows: &[Row]) -> Result<(), Problem> {
    let cost = |rate: Option<f64>| rate.map(|rate| 1e6 / rate);
    let points: Vec<(f64, f64, f64)> = rows
        .iter()
        .filter_map(|row| Some((backlog(row)?, cost(row.ours)?, cost(row.limit)?)))
        .collect();
    let [first, .., last] = points.as_slice() else {
        return Ok(());
    };
    let most = points
        .iter()
        .map(|point| point.1.max(point.2))
        .fold(0.0, f64::max);
    let canvas = canvas(path, (720, 400))?;
    let mut chart = ChartBuilder::on(&canvas)
        .margin(16)
        .caption("Claim and settle, microseconds a message by backlog", FONT)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((first.0..last.0).log_scale(), 0.0..most * 1.2)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_label_formatter(&|backlog| format!("{backlog}"))
        .label_style(FONT)
        .draw()?;
    let ours = points.iter().map(|point| (point.0, point.1));
    let limit = points.iter().map(|point| (point.0, point.2));
    for (name, line, colour) in [
        ("ours", ours.collect::<Vec<_>>(), MET),
        ("limit", limit.collect(), FAINT),
    ] {
        let dots = line.iter().map(|at| Circle::new(*at, 4, colour.filled()));
        chart.draw_series(dots)?;
        let style = FONT.into_font().color(&colour);
        let end = line.last().map(|at| Text::new(name, (at.0, at.1), style));
        chart.draw_series(LineSeries::new(line.iter().copied(), colour))?;
        chart.draw_series(end)?;
    }
    Ok(canvas.present()?)
}

/// The backlog that a row is about.
fn backlog(row: &Row) -> Option<f64> {
    let rest = row.variant.strip_prefix("claim and settle 500, backlog ")?;
    rest.split(',').next()?.parse().ok()
}
