//! Microphones through `cpal` (ALSA, CoreAudio, WASAPI, AAudio): any sample format, rate and channel count.
//!
//! The device's callback converts to f32 and writes into a ring, nothing more: no allocation, lock, wait or log. A device
//! that vanishes is told once; with [`MicOptions::reconnect`] it is looked for every half second, and the time without
//! it comes as lost frames when it is back.

use super::device::{Device, Faults, Reopening};
use super::ring::{AudioWriter, Reader, ring};
use super::{AudioFormat, AudioSource, Captured};
use crate::{Error, ErrorKind, Result};
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{FromSample, SampleFormat, SizedSample, StreamConfig};
use std::sync::Arc;

/// How a microphone is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct MicOptions {
    /// Id or name of the device, as [`mic_devices`] lists them; absent: the system's default.
    pub device: Option<String>,
    /// Seconds of audio that may wait for a reader before frames are lost. Default 2.
    pub buffer_seconds: f64,
    /// Whether a device that vanished is looked for until it is back. Default false.
    pub reconnect: bool,
}

impl Default for MicOptions {
    fn default() -> Self {
        Self {
            device: None,
            buffer_seconds: 2.0,
            reconnect: false,
        }
    }
}

/// A device that can be listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicDevice {
    /// What [`MicOptions::device`] takes; the same after a restart.
    pub id: String,
    /// For people.
    pub name: String,
    /// Whether it is the system's default.
    pub is_default: bool,
    /// The format it is opened with; absent where the device does not tell, as when another program holds it.
    pub format: Option<AudioFormat>,
}

/// The devices that can be listened to, the default first.
///
/// # Errors
/// [`ErrorKind::Device`] when the system's audio cannot be reached.
pub fn mic_devices() -> Result<Vec<MicDevice>> {
    let host = cpal::default_host();
    let id = |device: &cpal::Device| device.id().map(|id| id.to_string()).ok();
    let default = host.default_input_device().and_then(|device| id(&device));
    let devices = host
        .input_devices()
        .map_err(|e| failed("the devices", &e))?;
    let mut found: Vec<MicDevice> = devices
        .filter_map(|device| {
            let id = id(&device)?;
            Some(MicDevice {
                name: device.to_string(),
                is_default: Some(&id) == default.as_ref(),
                format: device
                    .default_input_config()
                    .ok()
                    .map(|config| AudioFormat {
                        rate: config.sample_rate(),
                        channels: config.channels(),
                    }),
                id,
            })
        })
        .collect();
    found.sort_by_key(|device| !device.is_default);
    Ok(found)
}

/// A microphone that is heard.
///
/// Without [`MicOptions::device`] it is the system's default, and stays it: where the system makes another device the
/// default, the stream goes on there, by itself (CoreAudio, PipeWire) or opened anew (WASAPI); what was lost meanwhile is
/// told.
pub struct Microphone(Reopening<Open>);

impl std::fmt::Debug for Microphone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let format = self.0.format();
        f.debug_struct("Microphone")
            .field("format", &format)
            .finish_non_exhaustive()
    }
}

/// An open device.
struct Open {
    // Dropped first, so that the callback ends before the ring does.
    _stream: cpal::Stream,
    reader: Reader,
    faults: Arc<Faults>,
    format: AudioFormat,
}

impl Device for Open {
    fn format(&self) -> AudioFormat {
        self.format
    }

    fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn offered(&self) -> u64 {
        self.reader.offered()
    }
}

impl Microphone {
    /// Opens a device and starts listening.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when there is none, none of that name, or it does not open: in use, not permitted, or in a
    /// format that is no PCM; the message lists the devices there are. [`ErrorKind::InvalidArgument`] for a buffer
    /// outside 0.05 to 60 seconds.
    pub fn open(options: MicOptions) -> Result<Self> {
        if !(0.05..=60.0).contains(&options.buffer_seconds) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "a buffer of {} s for the microphone: 0.05 to 60 s are expected",
                    options.buffer_seconds
                ),
            ));
        }
        let (reconnect, follow) = (options.reconnect, options.device.is_none());
        let open = Box::new(move || Open::new(&options));
        Reopening::new(open, reconnect, follow).map(Self)
    }

    /// Frames the devices have offered, lost ones included.
    pub fn offered(&self) -> u64 {
        self.0.offered()
    }
}

impl AudioSource for Microphone {
    fn format(&self) -> AudioFormat {
        self.0.format()
    }

    fn read(&mut self, out: &mut Vec<f32>) -> Result<Captured> {
        self.0.read(out)
    }
}

impl Open {
    fn new(options: &MicOptions) -> Result<Self> {
        let host = cpal::default_host();
        let device = match &options.device {
            None => host.default_input_device().ok_or_else(|| {
                Error::new(
                    ErrorKind::Device,
                    "there is no microphone: connect one, or see which the system knows with `acolyte devices`",
                )
            })?,
            Some(wanted) => find(&host, wanted)?,
        };
        let config = device
            .default_input_config()
            .map_err(|e| failed(&format!("microphone {device}"), &e))?;
        let format = AudioFormat {
            rate: config.sample_rate(),
            channels: config.channels(),
        };
        let frames = (options.buffer_seconds * f64::from(format.rate)) as usize;
        let (writer, reader) = ring(frames, format.channels);
        let faults = Arc::new(Faults::default());
        let kind = config.sample_format();
        let stream = listen(&device, config.into(), kind, writer, faults.clone())?;
        stream
            .play()
            .map_err(|e| failed(&format!("microphone {device}"), &e))?;
        Ok(Self {
            _stream: stream,
            reader,
            faults,
            format,
        })
    }
}

/// The device of that id, or else of that name.
fn find(host: &cpal::Host, wanted: &str) -> Result<cpal::Device> {
    let devices = || host.input_devices().map_err(|e| failed("the devices", &e));
    let by_id = devices()?.find(|d| d.id().is_ok_and(|id| id.to_string() == wanted));
    let by_name = match by_id {
        Some(device) => Some(device),
        None => devices()?.find(|device| device.to_string() == wanted),
    };
    by_name.ok_or_else(|| {
        let names: Vec<String> = mic_devices()
            .unwrap_or_default()
            .into_iter()
            .map(|device| format!("{:?} ({})", device.id, device.name))
            .collect();
        Error::new(
            ErrorKind::Device,
            match names.as_slice() {
                [] => format!("there is no microphone {wanted:?}, nor any other"),
                names => format!(
                    "there is no microphone {wanted:?}; there are {}",
                    names.join(", ")
                ),
            },
        )
    })
}

/// Opens the device in its own sample format.
fn listen(
    device: &cpal::Device,
    config: StreamConfig,
    format: SampleFormat,
    writer: AudioWriter,
    faults: Arc<Faults>,
) -> Result<cpal::Stream> {
    match format {
        SampleFormat::I8 => typed::<i8>(device, config, writer, faults),
        SampleFormat::I16 => typed::<i16>(device, config, writer, faults),
        SampleFormat::I24 => typed::<cpal::I24>(device, config, writer, faults),
        SampleFormat::I32 => typed::<i32>(device, config, writer, faults),
        SampleFormat::I64 => typed::<i64>(device, config, writer, faults),
        SampleFormat::U8 => typed::<u8>(device, config, writer, faults),
        SampleFormat::U16 => typed::<u16>(device, config, writer, faults),
        SampleFormat::U24 => typed::<cpal::U24>(device, config, writer, faults),
        SampleFormat::U32 => typed::<u32>(device, config, writer, faults),
        SampleFormat::U64 => typed::<u64>(device, config, writer, faults),
        SampleFormat::F32 => typed::<f32>(device, config, writer, faults),
        SampleFormat::F64 => typed::<f64>(device, config, writer, faults),
        other => Err(Error::new(
            ErrorKind::Device,
            format!("microphone {device} gives samples of format {other}: PCM is expected"),
        )),
    }
}

fn typed<T>(
    device: &cpal::Device,
    config: StreamConfig,
    mut writer: AudioWriter,
    faults: Arc<Faults>,
) -> Result<cpal::Stream>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let samples = move |data: &[T], _: &cpal::InputCallbackInfo| {
        writer.write(data.iter().map(|&sample| f32::from_sample_(sample)));
    };
    let errors = move |error: cpal::Error| match error.kind() {
        cpal::ErrorKind::Xrun => faults.overrun(),
        cpal::ErrorKind::DeviceChanged => faults.changed(),
        // The stream goes on with less priority.
        cpal::ErrorKind::RealtimeDenied => {}
        // Another device is the default now, and the stream does not follow by itself.
        cpal::ErrorKind::StreamInvalidated => faults.replaced(),
        _ => faults.gone(),
    };
    device
        .build_input_stream(config, samples, errors, None)
        .map_err(|e| failed(&format!("microphone {device}"), &e))
}

fn failed(what: &str, error: &cpal::Error) -> Error {
    Error::new(ErrorKind::Device, format!("{what}: {error}"))
}
