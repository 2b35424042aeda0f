// The Socket.IO server of the lab: echoes, tells the news, and recovers what a connection missed for two minutes.
const fs = require("fs");
const path = require("path");
const { Server } = require("socket.io");

const io = new Server(80, { connectionStateRecovery: { maxDisconnectionDuration: 120_000 } });
const told = process.argv[2];
let news = fs.existsSync(told) ? Number(fs.readFileSync(told)) : 0;

io.on("connection", (socket) => {
  socket.join("phone");
  socket.on("echo", (number, done) => {
    done();
    io.to("phone").emit("echo", number);
  });
});
setInterval(() => {
  if (fs.existsSync(path.join(path.dirname(told), "quiet"))) return;
  io.to("phone").emit("news", ++news);
  fs.writeFileSync(told, String(news));
}, 500);
console.log("READY");
