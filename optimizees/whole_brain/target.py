"""The functional connectivity that parameters are fitted to: a file of the user's, or one of a hidden model.

There is no empirical functional connectivity in this package or in tvb-data. The default target was made by
the same model with the parameters HIDDEN: correlations between the 76 regions, the mean of four runs of
20 s that differ in noise and initial state (`made`), in steps of 1/127. It is kept as data, so that it is
the same at every site; to make it again:

    python -c "from optimizees.whole_brain import target; print(target.encoded(target.made()))"
"""

from __future__ import annotations

import base64
import zlib
from typing import Dict

import numpy as np

from optimizees.whole_brain import model

HIDDEN: Dict[str, float] = {"coupling": 0.1, "speed": 4.0, "noise": 0.004}
WARMUP = 500.0  # ms
DURATION = 20000.0  # ms
SEEDS = (1, 2, 3, 4)
STEPS = 127.0  # of a correlation of 1, in the data

DATA = """
c-keF2YcGe5{3cWbg+{+PC^K7G1#VKV?Y8)sP~2{y<@;8C&{^g{$2xDIY)Z5&q}-68EM}6W~Hw(n`<$MPm?H)rAUGfNgT@ZG>?E)
8RaGJ7T@KoA8{brgsb5u`~=jYMjej84FHB3a6O-HJc4!Ly6XC7$q$xB2D+xGYjR6&1$A98w3g1IfJG~omQl7P<dlc*C<5@4cpbuV
f?%Q)i8D=t28tQt32wp()O~&)yG+CnuCKnFU&OwAjs?!+r(dsQ@h_jxuD)KKpMUwXi+%l=NPLXPW1d9(b0U5g`}EoO^~;CPi7&DE
>HBY=V)6Lt>9!B7pUu!_(d$j8>*Z^7wOMS2t96@!pVi@bl%MZG>TJN~3>^#T63vK)Wp_eGr`=`DHUSiMm=V|;eFt@IJ~ZrUM%!*{
X2fpGwq>>j0`BsLZD&+Z4L?=*9M2;Gp2bLt<5)hxag;zZBJz}HL4v`OgbS?Xe0AWlTB}w|<xs6!e5#gf5BW?jUk0A83;XN4aH){W
7t@|X?lzw;<nsB0Tt4HR#oL?fY$~0-kKcOcTIh9V_r}B7Y#CgxXKSZpGSIR$9E}UpEkK@ioG)tOe?rQLnrYe*-7?yYZqwD0im(Ec
QumsFIWf9};e59APgbL4dp^}!cqVoFz07d;*nFoEcLEOvcnZU4L6(&OFH0&SC~zsw)^HNN;$1;gXPqInrTa8pHaWFLHft?HQiU67
TLe!iD2ZWDJ`AdXbqvLb077776(cLTyJn#df(h6ajQB%-zt8VI2>86-urF}n3;4bMBfrP@zffo!jQB!fpF0=~`v19H!GJ#yavFay
5DrBBM*;V$KblRJi*@j2Gu=#|mllhxjp=Mwob3Selg(vYD&|)OlHwJuWdv2dWzdR=SMw4?b97SNTfJd#G?)e_)6TR%9P2bbYxVo1
Liepoo*7J9l2D(>;|?5>q=rRVRB5r*d@2YHiY0H@UCTDwh8;B9t+v|fa|CFzt(KP3-pbGi0ZY;p6l4elCK;CD0t`#@4O)Q8Y5EC5
kxP8r)9jWRGTWl%5G66q&c8(MtIba`o?)4WpP^usplFH>QZ&IfNfs*Sm`amCZ?NrP+#81m6MJM2hZ+eD<#xZ9?{3S;nL=cF0rK-S
f|CNzi9uH2<R&Y@<qQW9G=9yz%_lS8U@@L)lc|Q+Mh^V#^uSeUoXAL;rE6Y>fSZKCOOl@!C8fcOjlwNeaooP(cI%CQ_G7iNS4)!u
=5lAyPtV^<(20)TNkZMnlUS3I6+;gQx?w`HiWKkpT9d>s)!onF;@8ig#>=zOe46q`w|%#K%K*nMD9N)mFN?zsf|qsOC+enNmy~)o
#XKP>5?6PD)!#pVw>Rr90X~b4$@}$xOO5wN^Hvh;M*@vDDMd4_fNa_ptm;VNp0A)JcHz7j@HxnY{D0^PI5*zC@7Ny-g@U2bQ6%IL
6$*qy{)husI2>|F3;ToNkS}!LBv)@fHz;tX^oISy^bH_BcA31cVqVS3Z9zBx$c1fpDcvTjc?ISixzM)1|L$&H+9a@4`lC^1y)8oT
O*AbFb+70+NvoRmuan3hC+~zRN?{kR-7j@D*Wt$z-LkFJ>VNl@hzcfIrhG)B4FDBYOZW3e$E-;zcz;bl)Dh^Lx^)b72**%wJj%Ro
OVE1@yOSlzCo(9;sJdkbWvgvBTLx0P7eS09uC$$LD<nLS+qRuGc2)RH#P3-K32-Fh$S_TFeukqsoZ=hh99_eR=6AxiGRekNZ1;M1
^EW56wdNmj@bLr;J5ko0C~Jn^P*k{Z$CVMhnULNL2A)ctUN<w|maz{OnN{SbPvHoXRW;KN%Z6d1nuV6LB1kgCm9hsxosxAWrEVXp
r(7dN;#Dt>fFMjbspBVTlBwfPkw{@>5N>?K_78u^CeM*=zWg2mt{hzrH>!_MRS*E`M*vu@mqF+;p8|4~O8HyG-FQO4`uXGAefC57
;iB}A^*uafi^YdRq2wzTv!!C8eE&UFOy-NZL}sTAM$_zcTft6EDx)Z<U*<`YlN7ZTmNiu;WesyYcNBoQ7WR%h-pa0r>N~2D!ibs|
L+T)cAqW;gF$8Zk@k;I%E;kxLqVDRn)8-yPKB-umV_+Z8G;xw=86m`Qw9sTk$7QBU5cqd;-^+A&W%#2)q<OyXXDJB78IJ!aktLKB
k;g1k#R&9*+NC?Ynlq8k@XnGP-9!nN<M<#WFrqUNF6B4?r?BtjHoO0J6TQ8O-6gNwspMrcmAXl$4pPaRWb!6;8T)j1k-YgHzkb{1
!FL*b$Me7uOTZ8z$Suv!J27_hv5`x$RRl#Zq@DN3ci{CL9UL7T9(lZnhX*dV+vD-LosQS*Jadk%`;d=`OkUv7s3KtuLy#C9;AqHU
jKZL*h;Sl*3m?TSsnph~NY`d{UD0IoSo?SLAV6T7)~r@W^jyY2oF~5et}ecwUwr-cIp#~mKgPZ%;<4C=%S7V*^6ZnR1H3M^=w{LB
Pv$Q#f4yJ*SZ;c&wM9WIWiTG*XZuP=r$fEAq&onrR>U+VLorMq1#DK)^?Tu{TFLnVAX}*d)rV@J;xtZiE~Jx{Y^nToQFP7a=w@j;
d@P?|BJ0ikbueGpL}RHAhyCo>#Ydi}EvrA6O_#^>=gG1=owi7D#yi5C8MuR*LUBARadK3W7|E$A6jT;aC#1L3Vf0-n7<GgvcoYc-
Lm$FnM}{K7Xe8o~xYzCRWVW2YoUAspm(k+cX5f`FosJ&H2UdSHoQ@X9^F@C#n#@d!T(m~RQL*b%S}j|*!iJ?<qGfY<)u3Cdl#<<D
XB*Rr*d3)~T3wlf`jTnedCk+AbjQ)*s53GKV})vrWUJdLb=<S*^YP?)x^N1Gf;^2mM^Umv_vWwY;>XJm^JS%zwT0N}4>HfLpT~>e
zkX`#wT_ghjBQ(YOZUn8?_Yo0n^y}1mhxcO%dS0<NH`ohIgW<Bk&|fjBpBVV=j+aVp<#^~?-b<R$o>02o!3_z1J?3z(9gWMe<`b_
0+yzfWg0i@ef#yrbk>sw&R>6VIi(Y?_jt?F3(A2bR^U|ZbUK-d#~|x7sn_XcrY^W)ppq=zi~9;u$8hX>{jmNBg1|*_uMb9(;^aUS
m3#iM>&T+Jo3lJQ`yhMh{y*Ne?_U
"""


def synthetic() -> np.ndarray:
    """The default target: the upper triangle of the matrix, row by row."""
    return np.frombuffer(zlib.decompress(base64.b85decode("".join(DATA.split()))), dtype=np.int8) / STEPS


def from_file(path: str) -> np.ndarray:
    """The upper triangle of a square matrix of correlations in a text file.

    Raises ValueError for anything else; the diagonal may be anything.
    """
    matrix = np.atleast_2d(np.loadtxt(path))
    if matrix.shape[0] != matrix.shape[1] or len(matrix) < 3:
        raise ValueError(f"{path}: a square matrix is needed, got the shape {matrix.shape}")
    correlations = model.upper_triangle(matrix)
    if not np.all(np.abs(correlations) <= 1.0):
        raise ValueError(f"{path}: correlations must be numbers from -1 to 1")
    return correlations


def made() -> np.ndarray:
    """Simulate the hidden model (half a minute)."""
    runs = []
    for seed in SEEDS:
        rng = np.random.Generator(np.random.PCG64(seed))
        activity, _ = model.simulate(HIDDEN, model.CONNECTIVITY, WARMUP, DURATION, rng)
        runs.append(model.functional_connectivity(activity))
    return np.asarray(np.mean(runs, axis=0))


def encoded(correlations: np.ndarray) -> str:
    """Correlations as DATA holds them."""
    data = np.round(STEPS * correlations).astype(np.int8).tobytes()
    text = base64.b85encode(zlib.compress(data, 9)).decode()
    return "\n".join(text[start : start + 100] for start in range(0, len(text), 100))
