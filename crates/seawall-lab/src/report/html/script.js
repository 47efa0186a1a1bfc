(function(){
"use strict";
var data=JSON.parse(document.getElementById("data").textContent),charts=[],sync=uPlot.sync("seawall");
function colour(name){return getComputedStyle(document.documentElement).getPropertyValue(name).trim()}
function fade(hex,alpha){var n=parseInt(hex.slice(1),16);return "rgba("+(n>>16)+","+(n>>8&255)+","+(n&255)+","+alpha+")"}
function round(v){return v==null?"–":String(Math.round(v*10)/10)}
function shade(u,chart){var c=u.ctx,x=u.valToPos(chart.from,"x",true),w=u.valToPos(chart.to,"x",true)-x;c.save();c.fillStyle=fade(colour("--shade"),.16);c.fillRect(x,u.bbox.top,Math.max(w,2),u.bbox.height);c.restore()}
function tell(u,chart,box){
var at=u.cursor.idx,keys=box.parentNode.querySelectorAll("[data-line]"),when=box.parentNode.querySelector("[data-when]");
keys.forEach(function(key){var i=+key.dataset.line,s=chart.series[i];
key.textContent=at==null?"":" "+(s.band?round(s.y[at])+"–"+round(chart.series[i+1].y[at]):round(s.y[at]))+chart.unit});
if(when)when.textContent=at==null?"":"at "+round(chart.x[at])+" s";
}
function draw(chart){
var box=document.getElementById(chart.id);if(!box)return;
box.querySelectorAll(".uplot").forEach(function(old){old.remove()});
var soft=colour("--soft"),line=colour("--line"),bands=[],series=[{}];
chart.series.forEach(function(s,i){
var c=colour(s.colour);
series.push({stroke:s.edge?fade(c,.25):c,width:s.edge?1:s.thin?1:2,dash:s.dash?[4,4]:undefined,points:{show:false}});
if(s.band)bands.push({series:[i+2,i+1],fill:fade(c,.22)});
});
var axis={stroke:soft,grid:{stroke:line,width:1},ticks:{stroke:line,width:1},font:"12px system-ui,sans-serif",labelFont:"12px system-ui,sans-serif"};
var u=new uPlot({width:box.clientWidth,height:Math.max(190,Math.min(280,box.clientWidth*.52)),legend:{show:false},cursor:{sync:{key:sync.key},points:{size:6}},scales:{x:{time:false},y:{range:[0,chart.top]}},bands:bands,series:series,axes:[Object.assign({label:"seconds since the start",labelSize:20,size:34},axis),Object.assign({label:chart.axis,labelSize:18,size:50},axis)],hooks:{drawAxes:[function(u){shade(u,chart)}],setCursor:[function(u){tell(u,chart,box)}]}},[chart.x].concat(chart.series.map(function(s){return s.y})),box);
var still=box.querySelector("svg");if(still)still.style.display="none";
return u;
}
function all(){charts.forEach(function(u){if(u)u.destroy()});charts=data.map(draw)}
all();
var wait;window.addEventListener("resize",function(){clearTimeout(wait);wait=setTimeout(all,150)});
matchMedia("(prefers-color-scheme:dark)").addEventListener("change",all);
})();
