#!/bin/sh
# Makes demo.flv beside this script. Needs ffmpeg (libx264, drawtext), node, fonts-dejavu-core.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
font=/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf
name=/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf

# Sound: a chord that changes its pitch each second (24 steps up and down), a click on each second; three rounds of 24 s.
# The second round is cut out at packet borders below, so that its first packet continues its last.
pitch='220*pow(2,(12-abs(mod(floor(t),24)-12))/12)'
cat > "$work/tone" <<END
0.16*sin(2*PI*$pitch*mod(t,1))*(1-exp(-60*mod(t,1)))*(1-exp(-60*(1-mod(t,1))))
 + 0.07*sin(2*PI*1.5*$pitch*mod(t,1))*(1-exp(-60*mod(t,1)))*(1-exp(-60*(1-mod(t,1))))
 + 0.55*sin(2*PI*1000*mod(t,1))*lt(mod(t,1),0.012)
END
tone=$(tr -d '\n' < "$work/tone")
ffmpeg -v error -f lavfi -i "aevalsrc=exprs='$tone|$tone':s=48000:d=72" -c:a aac -b:a 64k -f adts "$work/all.aac"
# 24 s are exactly 1125 packets of 1024 samples; the encoder's one packet of lead-in makes round two 1126..=2250.
node -e '
  const fs = require("fs"), all = fs.readFileSync(process.argv[1]), at = [];
  for (let o = 0; o + 7 <= all.length; o += ((all[o + 3] & 3) << 11) | (all[o + 4] << 3) | (all[o + 5] >> 5)) at.push(o);
  fs.writeFileSync(process.argv[2], all.subarray(at[1126], at[2251]));
' "$work/all.aac" "$work/loop.aac"

node demo.mjs | ffmpeg -v error -y -f rawvideo -pix_fmt rgb24 -video_size 640x360 -framerate 30 -i - -i "$work/loop.aac" \
  -map 0:v -map 1:a -c:a copy -vf "
    drawtext=fontfile=$name:text='Shoal':x=28:y=44:fontsize=40:fontcolor=white@0.92:shadowcolor=black@0.35:shadowx=2:shadowy=2,
    drawtext=fontfile=$font:text='%{pts\:hms}':x=28:y=h-58:fontsize=32:fontcolor=white:box=1:boxcolor=black@0.45:boxborderw=8,
    drawtext=fontfile=$font:text='frame %{eif\:n\:d\:3}':x=w-tw-28:y=h-52:fontsize=24:fontcolor=white:box=1:boxcolor=black@0.45:boxborderw=8,
    scale=out_color_matrix=bt709:out_range=tv,format=yuv420p" \
  -color_primaries bt709 -color_trc bt709 -colorspace bt709 -color_range tv \
  -c:v libx264 -preset veryslow -profile:v main -level 3.1 -bf 0 -g 30 -keyint_min 30 -sc_threshold 0 -tune animation \
  -b:v 400k -maxrate 520k -bufsize 520k -x264-params bframes=0:rc-lookahead=60 \
  -flvflags no_duration_filesize -map_metadata -1 -fflags +bitexact -flags:v +bitexact demo.flv
