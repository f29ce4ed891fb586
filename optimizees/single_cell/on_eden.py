"""The cell in EDEN 0.2.3 (environments/eden.txt), written as NeuroML 2. Needs a `gcc` where it runs.

EDEN translates each model to C, has gcc make a shared object of it, and loads that. Its program is linked
statically with an old C library, and crashes when the object brings along the system's one. So the `gcc` that
EDEN finds is a script that links the object without any library; `expf`, the one function that these channels
need, is compiled into it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from optimizees.base import Infeasible
from optimizees.single_cell.cell import (
    AXIAL_RESISTIVITY,
    DIAMETER,
    E_K,
    E_NA,
    END,
    SAMPLE,
    SAMPLES,
    STEP_OFF,
    STEP_ON,
    V_INIT,
)

NEUROML, LEMS, EXPF, OUTPUT = "cell.nml", "LEMS_cell.xml", "expf.c", "voltages.txt"
LONGEST_MESSAGE = 2000  # characters of EDEN's output in an error message

# No -march=native and no -Ofast, which EDEN asks for: every node shall give the same numbers. A function that
# is missing shall be an error of the linker, not a crash.
COMPILER = """#!/bin/sh
case " $* " in
  *" -shared "*) ;;
  *) exec "$L2L_GCC" "$@" ;;
esac
for argument; do
  shift
  [ "$argument" = -lm ] || set -- "$@" "$argument"
done
exec "$L2L_GCC" "$@" -O2 -fno-fast-math -march=x86-64 -mtune=generic \\
  -nostdlib -Wl,--no-undefined "$L2L_EXPF"
"""

# exp(x) = 2^n exp(r) with |r| <= ln 2 / 2. The series in double precision is exact to the last bit or two of
# a float; results that are no normal floats are 0.
EXPF_SOURCE = """
float expf(float x)
{
    union { float value; unsigned bits; } power;
    double n, r, term = 1.0, sum = 1.0;
    if (x != x) return x;
    if (x > 88.72f) return __builtin_inff();
    if (x < -87.33f) return 0.0f;
    n = (double)(int)(x * 1.4426950408889634 + (x < 0.0f ? -0.5 : 0.5));
    r = x - n * 0.6931471805599453;
    for (int k = 1; k < 10; k++) {
        term *= r / k;
        sum += term;
    }
    if (n > 127.0) {  /* 2^128 is no float, but the result may be one */
        sum *= 2.0;
        n -= 1.0;
    }
    power.bits = (unsigned)((int)n + 127) << 23;
    return (float)(sum * (double)power.value);
}
"""

CHANNELS = """
<ionChannelHH id="leak" conductance="10 pS"/>
<ionChannelHH id="sodium" conductance="10 pS" species="na">
  <gateHHrates id="m" instances="3">
    <forwardRate type="HHExpLinearRate" rate="1 per_ms" midpoint="-40 mV" scale="10 mV"/>
    <reverseRate type="HHExpRate" rate="4 per_ms" midpoint="-65 mV" scale="-18 mV"/>
  </gateHHrates>
  <gateHHrates id="h" instances="1">
    <forwardRate type="HHExpRate" rate="0.07 per_ms" midpoint="-65 mV" scale="-20 mV"/>
    <reverseRate type="HHSigmoidRate" rate="1 per_ms" midpoint="-35 mV" scale="10 mV"/>
  </gateHHrates>
</ionChannelHH>
<ionChannelHH id="potassium" conductance="10 pS" species="k">
  <gateHHrates id="n" instances="4">
    <forwardRate type="HHExpLinearRate" rate="0.1 per_ms" midpoint="-55 mV" scale="10 mV"/>
    <reverseRate type="HHExpRate" rate="0.125 per_ms" midpoint="-65 mV" scale="-80 mV"/>
  </gateHHrates>
</ionChannelHH>
"""


def simulate(params: Mapping[str, float], steps: Sequence[float], dt: float) -> np.ndarray:
    """See cell.Backend. A cell of its own for each step; compiled anew for each parameter set."""
    gcc = shutil.which("gcc")
    if gcc is None:
        raise RuntimeError("EDEN needs a C compiler: there is no gcc on the PATH of this node")
    with tempfile.TemporaryDirectory(prefix="eden-", dir=os.curdir) as made:
        folder = Path(made).resolve()
        _write_model(folder, params, steps, dt)
        compiler = folder / "gcc"
        compiler.write_text(COMPILER)
        compiler.chmod(0o700)
        environment = {
            **os.environ,
            "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
            "L2L_GCC": gcc,
            "L2L_EXPF": str(folder / EXPF),
            "OMP_NUM_THREADS": "1",
        }
        return _run([_program(), "nml", LEMS, "gcc"], folder, environment, len(steps), dt)


def _program() -> str:
    """EDEN's program within its package, which need not be imported (it needs old setuptools)."""
    found = importlib.util.find_spec("eden_simulator")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("there is no EDEN in this environment (environments/eden.txt)")
    return str(Path(found.submodule_search_locations[0]) / "data" / "bin" / "eden")


def _run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], cells: int, dt: float
) -> np.ndarray:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        check=False,
    )
    if done.returncode != 0:
        text = done.stdout[-LONGEST_MESSAGE:]
        raise RuntimeError(f"EDEN ended with status {done.returncode}: {text}")
    rows = np.loadtxt(folder / OUTPUT, ndmin=2)  # s, V, V ...
    stride = round(SAMPLE / dt)
    voltages: np.ndarray = 1000.0 * rows[stride::stride, 1 : cells + 1][:SAMPLES].T
    if voltages.shape != (cells, SAMPLES):
        raise Infeasible(f"EDEN stopped after {rows[-1, 0] * 1000.0:.1f} ms")
    return voltages


def _write_model(folder: Path, params: Mapping[str, float], steps: Sequence[float], dt: float) -> None:
    """The NeuroML of cell and input, the LEMS file that runs it, and the C source of `expf`."""
    inputs = "".join(
        f'<pulseGenerator id="step{i}" delay="{STEP_ON} ms" duration="{STEP_OFF - STEP_ON} ms" '
        f'amplitude="{step!r} nA"/>\n'
        for i, step in enumerate(steps)
    )
    targets = "".join(f'<explicitInput target="cells[{i}]" input="step{i}"/>' for i in range(len(steps)))
    (folder / NEUROML).write_text(
        f'<neuroml xmlns="http://www.neuroml.org/schema/neuroml2" id="single_cell">{CHANNELS}{_cell(params)}'
        f'{inputs}<network id="net" type="networkWithTemperature" temperature="6.3 degC">'
        f'<population id="cells" component="cell" size="{len(steps)}"/>{targets}</network></neuroml>'
    )
    columns = "".join(f'<OutputColumn id="v{i}" quantity="cells[{i}]/v"/>' for i in range(len(steps)))
    (folder / LEMS).write_text(
        f'<Lems><Target component="run"/><Include file="{NEUROML}"/>'
        f'<Simulation id="run" length="{END + SAMPLE} ms" step="{dt!r} ms" target="net" seed="1">'
        f'<OutputFile id="out" fileName="{OUTPUT}">{columns}</OutputFile></Simulation></Lems>'
    )
    (folder / EXPF).write_text(EXPF_SOURCE)


def _cell(params: Mapping[str, float]) -> str:
    densities = "".join(
        f'<channelDensity id="{channel}_all" ionChannel="{channel}" condDensity="{density!r} S_per_cm2" '
        f'erev="{reversal!r} mV" ion="{ion}"/>\n'
        for channel, density, reversal, ion in (
            ("leak", params["gl"], params["el"], "non_specific"),
            ("sodium", params["gnabar"], E_NA, "na"),
            ("potassium", params["gkbar"], E_K, "k"),
        )
    )
    return (
        '<cell id="cell"><morphology id="shape"><segment id="0" name="soma">'
        f'<proximal x="0" y="0" z="0" diameter="{DIAMETER!r}"/>'
        f'<distal x="{DIAMETER!r}" y="0" z="0" diameter="{DIAMETER!r}"/></segment></morphology>\n'
        f'<biophysicalProperties id="biophysics"><membraneProperties>{densities}'
        f'<spikeThresh value="0 mV"/><specificCapacitance value="{params["cm"]!r} uF_per_cm2"/>'
        f'<initMembPotential value="{V_INIT} mV"/></membraneProperties><intracellularProperties>'
        f'<resistivity value="{AXIAL_RESISTIVITY / 1000.0} kohm_cm"/></intracellularProperties>'
        "</biophysicalProperties></cell>\n"
    )
